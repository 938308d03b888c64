// Scalars of the core schema, durations and sizes: what is read is in range, and reads the same when it is written out.
#include "client/spec/scalar.h"

#include <cmath>

#include "tests/fuzz/fuzz.h"

namespace orch::spec {
namespace {

// By another way: 128-bit arithmetic on whole numbers with a unit.
std::optional<int64_t> WholeSize(std::string_view text) {
  size_t digits = 0;
  __int128 value = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 25) {
    value = value * 10 + (text[digits++] - '0');
  }
  if (digits == 0 || digits == 25) return std::nullopt;
  const std::string_view unit = text.substr(digits);
  int power = -1;
  const std::string_view letters = "KMGT";
  if (unit.empty()) power = 0;
  if (!unit.empty() && letters.find(unit[0]) != std::string_view::npos &&
      (unit.size() == 1 || (unit.size() == 2 && (unit[1] == 'B' || unit[1] == 'i')))) {
    power = static_cast<int>(letters.find(unit[0])) + 1;
  }
  if (power < 0) return std::nullopt;
  const int base = unit.size() == 2 && unit[1] == 'i' ? 1024 : 1000;
  for (int i = 0; i < power; ++i) value *= base;
  if (value > INT64_MAX) return std::nullopt;
  return static_cast<int64_t>(value);
}

void Check(std::string_view input) {
  const absl::string_view text(input.data(), input.size());
  const Type type = TypeOf(text);
  if (type == Type::kBool) (void)ReadBool(text);
  if (type == Type::kInt) {
    if (const auto number = ReadInt(text)) {
      REQUIRE(TypeOf(std::to_string(*number)) == Type::kInt);
      REQUIRE(ReadInt(std::to_string(*number)) == number);
    }
  }
  if (type == Type::kFloat) {
    const double number = ReadFloat(text);
    char written[40];
    std::snprintf(written, sizeof(written), "%.17e", number);
    if (std::isfinite(number)) REQUIRE(TypeOf(written) == Type::kFloat && ReadFloat(written) == number);
  }
  for (const Tag tag : {Tag::kPlain, Tag::kText, Tag::kNull, Tag::kBool, Tag::kInt, Tag::kFloat}) {
    (void)TypeOf(text, tag);
  }
  REQUIRE(TypeOf(text, Tag::kText) == Type::kText);
  REQUIRE(TypeOf(text, Tag::kPlain) == type);

  if (const auto time = ReadDuration(text)) {
    REQUIRE(time->seconds() >= 0 && time->seconds() <= 315'576'000'000);
    REQUIRE(time->nanos() >= 0 && time->nanos() <= 999'999'999);
    const auto seconds = ReadDuration(std::to_string(time->seconds()) + "s");
    REQUIRE(seconds && seconds->seconds() == time->seconds() && seconds->nanos() == 0);
  }
  const auto size = ReadSize(text);
  if (size) {
    REQUIRE(*size >= 0);
    REQUIRE(ReadSize(std::to_string(*size)) == size);
  }
  if (input.size() < 24 && input.find('.') == std::string_view::npos) REQUIRE(size == WholeSize(input));
}

}  // namespace
}  // namespace orch::spec

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::spec::Check(orch::fuzz::View(data, size));
  return 0;
}
