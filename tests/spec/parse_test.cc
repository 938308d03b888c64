// Places, parameter values and configuration documents; what pipelines mean is in the vectors.
#include "client/spec/parse.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

namespace orch::spec {
namespace {

std::string Place(const SourceMap& map, absl::string_view field) {
  const Position place = map.Find(field);
  return absl::StrCat(place.line, ":", place.column);
}

TEST(SourceMap, FindsFieldsAsTheServerNamesThem) {
  const ParsedPipeline parsed = ParsePipeline(R"(name: p
parameters: {folds: {type: int, default: 3}, bare: 4}
defaults:
  retry:
    max_attempts: 2
steps:
  - name: one
    command: [a, b]
    env: {HOME: x, "A.B": y}
    labels:
      app.example.org/name: z
  - name: two
    command: [c]
    foreach:
      m: [1, 2]
      n: {from: one.list}
    inputs: {t: one.table, u: {from: one.rows}}
    resources: {gpu: 1}
    pools: [db, net]
    hooks: {on_failure: {command: [x, y]}}
    settings: {local: {a: [1, {b: 2}]}}
    image: i
)");
  ASSERT_THAT(parsed.problems, testing::IsEmpty());
  const SourceMap& map = parsed.map;
  EXPECT_EQ(Place(map, ""), "1:1");
  EXPECT_EQ(Place(map, "name"), "1:7");
  EXPECT_EQ(Place(map, "timeout"), "1:1");
  EXPECT_EQ(Place(map, "parameters.folds.default"), "2:42");
  EXPECT_EQ(Place(map, "parameters.bare.default"), "2:52");
  EXPECT_EQ(Place(map, "steps"), "7:3");
  EXPECT_EQ(Place(map, "steps[0]"), "7:5");
  EXPECT_EQ(Place(map, "steps[0].command[1]"), "8:18");
  EXPECT_EQ(Place(map, "steps[0].env.HOME"), "9:17");
  EXPECT_EQ(Place(map, "steps[0].env.A.B"), "9:27");
  EXPECT_EQ(Place(map, "steps[0].labels.app.example.org/name"), "11:29");
  EXPECT_EQ(Place(map, "steps[0].retry.max_attempts"), "5:19");
  EXPECT_EQ(Place(map, "steps[0].retry.on[0]"), "5:5");
  EXPECT_EQ(Place(map, "steps[0].timeout.run"), "7:5");
  EXPECT_EQ(Place(map, "steps[1].foreach[0].key"), "15:7");
  EXPECT_EQ(Place(map, "steps[1].foreach[0].values"), "15:10");
  EXPECT_EQ(Place(map, "steps[1].foreach[0].values[1]"), "15:14");
  EXPECT_EQ(Place(map, "steps[1].foreach[0].values.values[1]"), "15:14");
  EXPECT_EQ(Place(map, "steps[1].foreach[1].values"), "16:10");
  EXPECT_EQ(Place(map, "steps[1].foreach[1].from"), "16:17");
  EXPECT_EQ(Place(map, "steps[1].inputs.t.from"), "17:17");
  EXPECT_EQ(Place(map, "steps[1].inputs.u.from"), "17:38");
  EXPECT_EQ(Place(map, "steps[1].inputs.u.early"), "17:31");
  EXPECT_EQ(Place(map, "steps[1].resources.gpu.count"), "18:22");
  EXPECT_EQ(Place(map, "steps[1].resources.memory"), "18:16");
  EXPECT_EQ(Place(map, "steps[1].pools.net"), "19:17");
  EXPECT_EQ(Place(map, "steps[1].hooks.on_failure.command.command[1]"), "20:39");
  EXPECT_EQ(Place(map, "steps[1].settings.local.a[1].b"), "21:35");
  EXPECT_EQ(Place(map, "steps[1].image.reference"), "22:12");
  EXPECT_EQ(Place(map, "steps[7].name"), "7:3");
  for (const char* odd : {"[", "steps[", "steps[]", "steps[0]..", "...", "steps[99999999999999].x", "name.x[0]", "]"}) {
    EXPECT_GT(map.Find(odd).line, 0) << odd;
  }
  EXPECT_EQ(Place(SourceMap(), "name"), "0:0");
}

TEST(Format, LeavesOutWhatIsUnknown) {
  EXPECT_EQ(Format("f.yaml", {{3, 7}, "steps[0].name", "is missing", ""}), "f.yaml:3:7: steps[0].name: is missing");
  EXPECT_EQ(Format("f.yaml", {{0, 0}, "", "too large", ""}), "f.yaml: too large");
}

std::string Parameter(absl::string_view text) {
  const auto value = ParseParameterValue(text);
  return value.ok() ? value->ShortDebugString() : std::string(value.status().message());
}

TEST(ParameterValue, IsAScalarOfTheCoreSchemaOrElseText) {
  EXPECT_EQ(Parameter("3"), "number_value: 3");
  EXPECT_EQ(Parameter("0x10"), "number_value: 16");
  EXPECT_EQ(Parameter("-1.5e3"), "number_value: -1500");
  EXPECT_EQ(Parameter("true"), "bool_value: true");
  EXPECT_EQ(Parameter("yes"), "string_value: \"yes\"");
  EXPECT_EQ(Parameter("null"), "null_value: NULL_VALUE");
  EXPECT_EQ(Parameter(""), "string_value: \"\"");
  EXPECT_EQ(Parameter("\"3\""), "string_value: \"3\"");
  EXPECT_EQ(Parameter("'3'"), "string_value: \"3\"");
  EXPECT_EQ(Parameter("a: b # c"), "string_value: \"a: b # c\"");
  EXPECT_EQ(Parameter("  x "), "string_value: \"  x \"");
  EXPECT_EQ(Parameter("*a"), "string_value: \"*a\"");
  EXPECT_EQ(Parameter("[1, \"a\"]"), "list_value { values { number_value: 1 } values { string_value: \"a\" } }");
  EXPECT_EQ(Parameter("{\"a\":1}"), "struct_value { fields { key: \"a\" value { number_value: 1 } } }");
  EXPECT_EQ(Parameter("[unclosed"), "string_value: \"[unclosed\"");
  EXPECT_EQ(Parameter("\"a\" b"), "string_value: \"\\\"a\\\" b\"");
  EXPECT_EQ(Parameter(".inf"), "string_value: \".inf\"");
  EXPECT_EQ(Parameter("\"\\ud83d\\ude00\""), Parameter("😀"));
  EXPECT_EQ(Parameter("9007199254740992"), "number_value: 9007199254740992");
  EXPECT_THAT(Parameter("9007199254740993"), testing::HasSubstr("2^53"));
}

TEST(Config, IsAnyMapping) {
  const ConfigDocument good = ParseConfig("kind: pool\nslots: 3\nmore: {a: [1, x]}\n");
  EXPECT_THAT(good.problems, testing::IsEmpty());
  EXPECT_EQ(good.value.fields().at("slots").number_value(), 3);
  EXPECT_EQ(Place(good.map, "more.a[1]"), "3:15");
  const ConfigDocument bad = ParseConfig("a: 1\na: 2\nb: .nan\n");
  ASSERT_EQ(bad.problems.size(), 2U);
  EXPECT_EQ(Format("f", bad.problems[0]), "f:2:1: a: the key is there twice, first in line 1");
  EXPECT_EQ(bad.problems[1].field, "b");
  EXPECT_EQ(ParseConfig("- a\n").problems.size(), 1U);
}

}  // namespace
}  // namespace orch::spec
