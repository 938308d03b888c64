#include "server/base/utf8.h"

#include <cstdint>

namespace orch {

size_t Utf8Length(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> uint8_t { return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t head = byte(0);
  if (head < 0x80) return 1;
  if (head >= 0xC2 && head <= 0xDF) return tail(1) ? 2 : 0;
  if (head >= 0xE0 && head <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    if (head == 0xE0 && byte(1) < 0xA0) return 0;
    if (head == 0xED && byte(1) > 0x9F) return 0;  // a UTF-16 surrogate
    return 3;
  }
  if (head >= 0xF0 && head <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (head == 0xF0 && byte(1) < 0x90) return 0;
    if (head == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

bool IsControl(absl::string_view text, size_t at, size_t length) {
  const auto first = static_cast<uint8_t>(text[at]);
  if (length == 1) return first < 0x20 || first == 0x7F;
  const auto second = static_cast<uint8_t>(text[at + 1]);
  if (length == 2) return first == 0xC2 && second < 0xA0;
  if (length == 3 && first == 0xE2) {
    const auto third = static_cast<uint8_t>(text[at + 2]);
    return second == 0x80 && (third == 0xA8 || third == 0xA9);
  }
  if (length == 3 && first == 0xEF) {
    const auto third = static_cast<uint8_t>(text[at + 2]);
    if (second == 0xBF && third >= 0xBE) return true;
    return second == 0xBB && third == 0xBF;
  }
  return false;
}

bool IsUtf8(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

bool IsPrintable(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text, at);
    if (length == 0 || IsControl(text, at, length)) return false;
    at += length;
  }
  return true;
}

std::string ToUtf8(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text, at);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++at;
    } else {
      out.append(text.data() + at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace orch
