#include "client/spec/encoding.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"

namespace orch::spec {
namespace {

// The length of the well-formed UTF-8 sequence at `at`, 0 if there is none.
size_t SequenceLength(absl::string_view text, size_t at) {
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

// Control characters that YAML forbids: C0 but tab, LF, CR; DEL; C1; U+FFFE and U+FFFF; a BOM inside. Also U+0085,
// U+2028 and U+2029, which the scanner would take for line ends as YAML 1.1 does, and fold.
bool IsForbidden(absl::string_view text, size_t at, size_t length) {
  const auto first = static_cast<uint8_t>(text[at]);
  if (length == 1) return (first < 0x20 && first != '\t' && first != '\n' && first != '\r') || first == 0x7F;
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

}  // namespace

bool CheckEncoding(absl::string_view text, Problem* problem) {
  int line = 1;
  int column = 1;
  for (size_t at = 0; at < text.size();) {
    const auto head = static_cast<uint8_t>(text[at]);
    if (head == '\n' || (head == '\r' && (at + 1 == text.size() || text[at + 1] != '\n'))) {
      ++line;
      column = 1;
      ++at;
      continue;
    }
    if (head >= 0x20 && head < 0x7F) {
      ++column;
      ++at;
      continue;
    }
    const size_t length = SequenceLength(text, at);
    if (length == 0) {
      *problem = {{line, column}, "", absl::StrFormat("byte 0x%02X: the text is not UTF-8", head), "INVALID_ENCODING"};
      return false;
    }
    if (IsForbidden(text, at, length)) {
      *problem = {
          {line, column},
          "",
          absl::StrFormat("byte 0x%02X begins a control character or line separator; in double quotes write an escape",
                          head),
          "INVALID_ENCODING"};
      return false;
    }
    at += length;
    ++column;
  }
  return true;
}

bool IsUtf8(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = SequenceLength(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

char CharacterAt(absl::string_view text, size_t character) {
  for (const char c : text) {
    if ((static_cast<uint8_t>(c) & 0xC0) == 0x80) continue;
    if (character-- == 0) return c;
  }
  return 0;
}

}  // namespace orch::spec
