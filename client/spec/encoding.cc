#include "client/spec/encoding.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "server/base/utf8.h"

namespace orch::spec {

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
    const size_t length = Utf8Length(text, at);
    if (length == 0) {
      *problem = {{line, column}, "", absl::StrFormat("byte 0x%02X: the text is not UTF-8", head), "INVALID_ENCODING"};
      return false;
    }
    if (head != '\t' && head != '\r' && IsControl(text, at, length)) {
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

char CharacterAt(absl::string_view text, size_t character) {
  for (const char c : text) {
    if ((static_cast<uint8_t>(c) & 0xC0) == 0x80) continue;
    if (character-- == 0) return c;
  }
  return 0;
}

}  // namespace orch::spec
