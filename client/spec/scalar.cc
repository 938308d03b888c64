#include "client/spec/scalar.h"

#include <limits>
#include <utility>

#include "absl/numeric/int128.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace orch::spec {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

template <typename... Words>
bool IsOneOf(absl::string_view text, Words... words) {
  return ((text == words) || ...);
}

size_t Digits(absl::string_view text, size_t at) {
  const size_t begin = at;
  while (at < text.size() && IsDigit(text[at])) ++at;
  return at - begin;
}

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
Type NumberType(absl::string_view text) {
  size_t at = text[0] == '-' || text[0] == '+' ? 1 : 0;
  const size_t whole = Digits(text, at);
  at += whole;
  if (whole > 0 && at == text.size()) return Type::kInt;
  if (at < text.size() && text[at] == '.') {
    const size_t fraction = Digits(text, ++at);
    if (whole == 0 && fraction == 0) return Type::kText;
    at += fraction;
  } else if (whole == 0) {
    return Type::kText;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    const size_t exponent = Digits(text, at);
    if (exponent == 0) return Type::kText;
    at += exponent;
  }
  return at == text.size() ? Type::kFloat : Type::kText;
}

bool AllIn(absl::string_view text, absl::string_view alphabet) {
  return !text.empty() && text.find_first_not_of(alphabet) == absl::string_view::npos;
}

constexpr absl::string_view kHex = "0123456789abcdefABCDEF";
constexpr absl::string_view kOctal = "01234567";

// `12`, `1.5`: the number times `scale`, exactly; nullopt if that is no whole number, or too large.
std::optional<int64_t> ScaledDecimal(absl::string_view number, int64_t scale) {
  const size_t whole_digits = Digits(number, 0);
  if (whole_digits == 0) return std::nullopt;
  int64_t whole = 0;
  if (!absl::SimpleAtoi(number.substr(0, whole_digits), &whole)) return std::nullopt;
  int64_t result = 0;
  if (__builtin_mul_overflow(whole, scale, &result)) return std::nullopt;
  absl::string_view rest = number.substr(whole_digits);
  if (rest.empty()) return result;
  if (rest[0] != '.') return std::nullopt;
  rest.remove_prefix(1);
  if (rest.empty() || Digits(rest, 0) != rest.size()) return std::nullopt;
  while (!rest.empty() && rest.back() == '0') rest.remove_suffix(1);
  // One digit after the other: what remains of the scale must stay whole.
  absl::int128 numerator = 0;
  absl::int128 denominator = 1;
  if (rest.size() > 18) return std::nullopt;
  for (const char c : rest) {
    numerator = numerator * 10 + (c - '0');
    denominator *= 10;
  }
  const absl::int128 part = numerator * scale;
  if (part % denominator != 0) return std::nullopt;
  if (__builtin_add_overflow(result, static_cast<int64_t>(part / denominator), &result)) return std::nullopt;
  return result;
}

}  // namespace

Type TypeOf(absl::string_view plain) {
  if (plain.empty()) return Type::kNull;
  const char first = plain[0];
  if (IsDigit(first) || first == '-' || first == '+' || first == '.') {
    if (plain.size() > 2 && first == '0' && plain[1] == 'x' && AllIn(plain.substr(2), kHex)) return Type::kInt;
    if (plain.size() > 2 && first == '0' && plain[1] == 'o' && AllIn(plain.substr(2), kOctal)) return Type::kInt;
    absl::string_view unsigned_text = plain;
    if (first == '-' || first == '+') unsigned_text.remove_prefix(1);
    if (IsOneOf(unsigned_text, ".inf", ".Inf", ".INF")) return Type::kFloat;
    if (IsOneOf(plain, ".nan", ".NaN", ".NAN")) return Type::kFloat;
    return NumberType(plain);
  }
  if (IsOneOf(plain, "~", "null", "Null", "NULL")) return Type::kNull;
  if (IsOneOf(plain, "true", "True", "TRUE", "false", "False", "FALSE")) return Type::kBool;
  return Type::kText;
}

std::optional<Type> TypeOf(absl::string_view text, Tag tag) {
  if (tag == Tag::kText) return Type::kText;
  const Type type = TypeOf(text);
  switch (tag) {
    case Tag::kNull:
      return type == Type::kNull ? std::optional(type) : std::nullopt;
    case Tag::kBool:
      return type == Type::kBool ? std::optional(type) : std::nullopt;
    case Tag::kInt:
      return type == Type::kInt ? std::optional(type) : std::nullopt;
    case Tag::kFloat:
      return type == Type::kInt || type == Type::kFloat ? std::optional(Type::kFloat) : std::nullopt;
    case Tag::kPlain:
    case Tag::kText:
      break;
  }
  return type;
}

bool ReadBool(absl::string_view text) { return text[0] == 't' || text[0] == 'T'; }

std::optional<int64_t> ReadInt(absl::string_view text) {
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
    const uint64_t base = text[1] == 'x' ? 16 : 8;
    uint64_t value = 0;
    for (const char c : text.substr(2)) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / base) return std::nullopt;
      const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
      value = value * base + static_cast<uint64_t>(lower <= '9' ? lower - '0' : lower - 'a' + 10);
    }
    return static_cast<int64_t>(value);
  }
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

double ReadFloat(absl::string_view text) {
  absl::string_view number = text;
  const bool negative = !number.empty() && number[0] == '-';
  if (!number.empty() && (number[0] == '-' || number[0] == '+')) number.remove_prefix(1);
  if (IsOneOf(number, ".inf", ".Inf", ".INF")) {
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  if (IsOneOf(number, ".nan", ".NaN", ".NAN")) return std::numeric_limits<double>::quiet_NaN();
  if (number.size() > 2 && number[0] == '0' && (number[1] == 'x' || number[1] == 'o')) {
    return static_cast<double>(ReadInt(number).value_or(0));
  }
  double value = 0;
  (void)absl::SimpleAtod(number, &value);  // the form was checked; too large becomes infinite
  return negative ? -value : value;
}

std::optional<google::protobuf::Duration> ReadDuration(absl::string_view text) {
  static constexpr int64_t kMillisecond = 1'000'000;
  static constexpr int64_t kSecond = 1000 * kMillisecond;
  size_t digits = 0;
  while (digits < text.size() && (IsDigit(text[digits]) || text[digits] == '.')) ++digits;
  const absl::string_view unit = text.substr(digits);
  int64_t seconds_scale = 0;
  if (unit == "s") seconds_scale = 1;
  if (unit == "m") seconds_scale = 60;
  if (unit == "h") seconds_scale = 3600;
  if (unit == "d") seconds_scale = 86400;
  google::protobuf::Duration out;
  static constexpr int64_t kMaxSeconds = 315'576'000'000;  // as google.protobuf.Duration
  if (seconds_scale > 0) {
    // Whole numbers by themselves: nanoseconds in 64 bits end at 292 years.
    if (const auto seconds = ScaledDecimal(text.substr(0, digits), seconds_scale)) {
      if (*seconds > kMaxSeconds) return std::nullopt;
      out.set_seconds(*seconds);
      return out;
    }
  }
  const int64_t scale = unit == "ms" ? kMillisecond : seconds_scale * kSecond;
  if (scale == 0) return std::nullopt;
  const auto nanos = ScaledDecimal(text.substr(0, digits), scale);
  if (!nanos) return std::nullopt;
  out.set_seconds(*nanos / kSecond);
  out.set_nanos(static_cast<int32_t>(*nanos % kSecond));
  return out;
}

std::optional<int64_t> ReadSize(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && (IsDigit(text[digits]) || text[digits] == '.')) ++digits;
  const absl::string_view unit = text.substr(digits);
  if (unit.empty()) return ScaledDecimal(text, 1);
  static constexpr std::pair<absl::string_view, int64_t> kUnits[] = {{"K", 1000},
                                                                     {"KB", 1000},
                                                                     {"Ki", int64_t{1} << 10},
                                                                     {"M", 1'000'000},
                                                                     {"MB", 1'000'000},
                                                                     {"Mi", int64_t{1} << 20},
                                                                     {"G", 1'000'000'000},
                                                                     {"GB", 1'000'000'000},
                                                                     {"Gi", int64_t{1} << 30},
                                                                     {"T", 1'000'000'000'000},
                                                                     {"TB", 1'000'000'000'000},
                                                                     {"Ti", int64_t{1} << 40}};
  for (const auto& [name, scale] : kUnits) {
    if (unit == name) return ScaledDecimal(text.substr(0, digits), scale);
  }
  return std::nullopt;
}

}  // namespace orch::spec
