// What is read off a jq expression before it runs.
#include "server/model/expression.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace orch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string PathsOf(const std::string& text) {
  std::vector<std::string> out;
  for (const auto& path : ReadExpression(text).paths) {
    out.push_back(path.field.empty() ? path.head : absl::StrCat(path.head, ".", path.field));
  }
  return absl::StrJoin(out, " ");
}

TEST(Expression, PathsThatStartAtTheInput) {
  EXPECT_EQ(PathsOf(".ingest.rows > 100"), "ingest.rows");
  EXPECT_EQ(PathsOf(".a.x>1 and (.b.y == \"s\" or .params.k)"), "a.x b.y params.k");
  EXPECT_EQ(PathsOf(".\"after-big\".rows"), "after-big.rows");
  EXPECT_EQ(PathsOf(".[\"after-big\"].rows"), "after-big");
  EXPECT_EQ(PathsOf(".train[0].score"), "train");
  EXPECT_EQ(PathsOf("[.train[].score] | max > .9"), "train");
  EXPECT_EQ(PathsOf("if .a.x|length > 1 then .b else .c.y end"), "a.x b c.y");
  EXPECT_EQ(PathsOf("{a, b: .c, \"d\": .e.f} | .g"), "a c e.f");
  EXPECT_EQ(PathsOf(".a[.b.i]"), "a b.i");
  EXPECT_EQ(PathsOf(".a?.b // .c"), "a c");
  EXPECT_EQ(PathsOf("# .x\n.y"), "y");
}

TEST(Expression, WhatIsNotTheInputIsNotAPath) {
  EXPECT_EQ(PathsOf(".a | .b.c"), "a");
  EXPECT_EQ(PathsOf("any(.x; .y)"), "");
  EXPECT_EQ(PathsOf(". as $all | .a"), "");
  EXPECT_EQ(PathsOf("$x.b"), "");
  EXPECT_EQ(PathsOf("\".a\" == \"b\""), "");
  EXPECT_EQ(PathsOf("1.5 < .5"), "");
}

TEST(Expression, KnowsWhetherItFollowedEverything) {
  for (const char* text : {".params.x == 1", "true", ".params.a | length > 1", "(.params.x + 1) * 2 > 3",
                           "if .params.x then true else false end"}) {
    EXPECT_TRUE(ReadExpression(text).only_known_paths) << text;
  }
  for (const char* text : {".", "keys | length", "..", "any(.a; .)", ". as $x | $x.b", "\"\\(.a)\" == \"b\"",
                           "has(\"a\")", ".[0]", "{\"a\"}", ".\"\\(1)\""}) {
    EXPECT_FALSE(ReadExpression(text).only_known_paths) << text;
  }
}

TEST(Expression, WordsThatAreRefused) {
  EXPECT_THAT(ReadExpression("now > 3 and env.HOME and $ENV.A").refused, ElementsAre("now", "env", "$ENV"));
  EXPECT_THAT(ReadExpression("\"\\(now)\"").refused, ElementsAre("now"));
  EXPECT_THAT(ReadExpression("[input, inputs]").refused, ElementsAre("input", "inputs"));
  EXPECT_THAT(ReadExpression(".now.env == \"input\"").refused, IsEmpty());
  EXPECT_THAT(ReadExpression("{now: 1}").refused, IsEmpty());
}

TEST(Expression, TextThatIsNoExpressionEnds) {
  for (const char* text : {"", "(", ")", "\"", "\"\\(", "\"\\(\"", "{", "}]", ".", "$", "@", "end", "if", "\\", ".\"",
                           "\"\\(\"\\(\"a\")\")\""}) {
    (void)ReadExpression(text);
  }
  std::string deep;
  for (int n = 0; n < 100'000; ++n) deep += "\"\\(";
  EXPECT_FALSE(ReadExpression(deep).only_known_paths);
}

}  // namespace
}  // namespace orch
