// Which token opens what, and when no more.
#include "server/engine/api_tokens.h"

#include "gtest/gtest.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr int64_t kHour = int64_t{3600} * 1'000'000;

ApiTokenRow Row(const std::string& name, const std::string& value, int64_t expires = 0) {
  ApiTokenRow row;
  row.name = name;
  row.digest = ApiTokens::DigestOf(value);
  row.created = 5;
  row.expires = expires;
  return row;
}

TEST(ApiTokens, ValuesDifferAndHaveOneForm) {
  const std::string one = ApiTokens::MakeValue();
  EXPECT_EQ(one.size(), 48U);
  EXPECT_EQ(one.substr(0, 5), "orch_");
  EXPECT_EQ(one.find('='), std::string::npos);
  EXPECT_NE(one, ApiTokens::MakeValue());
}

TEST(ApiTokens, ExpireToTheMicrosecond) {
  ApiTokens tokens;
  const std::string value = ApiTokens::MakeValue();
  tokens.Load({Row("ci", value, 100)});
  EXPECT_EQ(tokens.Find(value, 99)->name, "ci");
  EXPECT_EQ(ReasonOf(tokens.Find(value, 100).status()), "TOKEN_EXPIRED");
  EXPECT_EQ(ReasonOf(tokens.Check({"ci", 5, TokenScope::kRead}, 100)), "TOKEN_EXPIRED");
  EXPECT_EQ(ReasonOf(tokens.Find(ApiTokens::MakeValue(), 1).status()), "TOKEN_INVALID");
}

TEST(ApiTokens, ANewOneOfTheNameShutsOutTheOld) {
  ApiTokens tokens;
  const std::string old_value = ApiTokens::MakeValue();
  const std::string value = ApiTokens::MakeValue();
  tokens.Put(Row("ci", old_value));
  ApiTokenRow next = Row("ci", value);
  next.created = 6;
  tokens.Put(next);
  EXPECT_EQ(ReasonOf(tokens.Find(old_value, 1).status()), "TOKEN_INVALID");
  EXPECT_TRUE(tokens.Find(value, 1).ok());
  EXPECT_EQ(ReasonOf(tokens.Check({"ci", 5, TokenScope::kRead}, 1)), "TOKEN_INVALID");
  next.revoked = 7;
  tokens.Put(next);
  EXPECT_EQ(ReasonOf(tokens.Find(value, 1).status()), "TOKEN_REVOKED");
}

TEST(ApiTokens, AUseIsWorthStoringOnceAnHour) {
  ApiTokens tokens;
  tokens.Put(Row("ci", ApiTokens::MakeValue()));
  const TokenIdentity who{"ci", 5, TokenScope::kRead};
  EXPECT_TRUE(tokens.NoteUse(who, 10 * kHour + 1));
  EXPECT_FALSE(tokens.NoteUse(who, 10 * kHour + 2));
  EXPECT_EQ(tokens.Get("ci")->last_used, 10 * kHour);
  EXPECT_FALSE(tokens.NoteUse(who, 9 * kHour));  // the clock was set back
  EXPECT_TRUE(tokens.NoteUse(who, 11 * kHour));
  EXPECT_FALSE(tokens.NoteUse({"ci", 4, TokenScope::kRead}, 20 * kHour));
}

}  // namespace
}  // namespace orch
