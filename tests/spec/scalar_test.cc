#include "client/spec/scalar.h"

#include "gmock/gmock.h"

namespace orch::spec {
namespace {

TEST(Scalar, HasTheTypeOfTheCoreSchema) {
  for (const char* text : {"", "~", "null", "Null", "NULL"}) EXPECT_EQ(TypeOf(text), Type::kNull) << text;
  for (const char* text : {"true", "True", "FALSE"}) EXPECT_EQ(TypeOf(text), Type::kBool) << text;
  for (const char* text : {"0", "-1", "+12", "007", "0o17", "0xfF"}) EXPECT_EQ(TypeOf(text), Type::kInt) << text;
  for (const char* text : {"1.", ".5", "-1.5e3", "1e3", "+.inf", "-.INF", ".NaN"}) {
    EXPECT_EQ(TypeOf(text), Type::kFloat) << text;
  }
  for (const char* text : {"y",    "yes", "no", "on", "off", "tRUE", "nULL",  "1_000", "0b1", "-0x1", "0x", "0o8",
                           "1:30", ".",   "-",  "+",  "e3",  "1e",   "1.2.3", "-.nan", "inf", "--1",  "."}) {
    EXPECT_EQ(TypeOf(text), Type::kText) << text;
  }
}

TEST(Scalar, ReadsNumbersExactly) {
  EXPECT_EQ(ReadInt("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(ReadInt("9223372036854775808"), std::nullopt);
  EXPECT_EQ(ReadInt("0x7fffffffffffffff"), INT64_MAX);
  EXPECT_EQ(ReadInt("0x8000000000000000"), std::nullopt);
  EXPECT_EQ(ReadInt("0o17"), 15);
  EXPECT_EQ(ReadInt("+010"), 10);
  EXPECT_EQ(ReadFloat("-.5e1"), -5.0);
  EXPECT_EQ(ReadFloat("0x10"), 16.0);
}

TEST(Duration, HasAUnit) {
  const auto nanos = [](absl::string_view text) -> int64_t {
    const auto d = ReadDuration(text);
    return d ? d->seconds() * 1'000'000'000 + d->nanos() : -1;
  };
  EXPECT_EQ(nanos("500ms"), 500'000'000);
  EXPECT_EQ(nanos("10s"), 10'000'000'000);
  EXPECT_EQ(nanos("5m"), 300'000'000'000);
  EXPECT_EQ(nanos("2h"), 7'200'000'000'000);
  EXPECT_EQ(nanos("1d"), 86'400'000'000'000);
  EXPECT_EQ(nanos("1.5s"), 1'500'000'000);
  EXPECT_EQ(nanos("0.5d"), 43'200'000'000'000);
  EXPECT_EQ(nanos("0s"), 0);
  for (const char* text : {"", "10", "s", "10 s", "-1s", "1h30m", "1e3s", "1.s", ".5s", "1us", "10S", "1..5s",
                           "0.0000000001s", "99999999999999999999d"}) {
    EXPECT_EQ(nanos(text), -1) << text;
  }
  EXPECT_EQ(ReadDuration("3652500d")->seconds(), 315'576'000'000);
  EXPECT_FALSE(ReadDuration("3652501d"));
}

TEST(Size, IsExact) {
  EXPECT_EQ(ReadSize("512Mi"), 536'870'912);
  EXPECT_EQ(ReadSize("2Gi"), 2'147'483'648);
  EXPECT_EQ(ReadSize("1G"), 1'000'000'000);
  EXPECT_EQ(ReadSize("16GB"), 16'000'000'000);
  EXPECT_EQ(ReadSize("1.5Ki"), 1536);
  EXPECT_EQ(ReadSize("1T"), 1'000'000'000'000);
  EXPECT_EQ(ReadSize("1TB"), 1'000'000'000'000);
  EXPECT_EQ(ReadSize("3Ti"), int64_t{3} << 40);
  EXPECT_EQ(ReadSize("7"), 7);
  EXPECT_EQ(ReadSize("0"), 0);
  for (const char* text : {"", "Mi", "-1", "1k", "1mb", "1KiB", "1 Gi", "1.0001K", "0.5", "1e9", "9999999999999Ti"}) {
    EXPECT_EQ(ReadSize(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace orch::spec
