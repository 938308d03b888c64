#include "client/spec/surrogates.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace orch::spec {
namespace {

constexpr size_t kEscape = 6;  // \uXXXX

// The code of `\uXXXX` at `at`; 0 if there is none.
uint32_t EscapeAt(absl::string_view text, size_t at) {
  if (at + kEscape > text.size() || text[at] != '\\' || text[at + 1] != 'u') return 0;
  uint32_t code = 0;
  for (size_t i = 2; i < kEscape; ++i) {
    const char c = text[at + i];
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return 0;
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    code = code * 16 + static_cast<uint32_t>(lower <= '9' ? lower - '0' : lower - 'a' + 10);
  }
  return code;
}

bool IsHigh(uint32_t code) { return code >= 0xD800 && code < 0xDC00; }
bool IsLow(uint32_t code) { return code >= 0xDC00 && code < 0xE000; }

// The code of the three-byte character at `at`; 0 if there is none.
uint32_t CharacterOfThree(absl::string_view text, size_t at) {
  if (at + 3 > text.size() || (static_cast<uint8_t>(text[at]) & 0xF0) != 0xE0) return 0;
  return (static_cast<uint32_t>(text[at]) & 0x0F) << 12 | (static_cast<uint32_t>(text[at + 1]) & 0x3F) << 6 |
         (static_cast<uint32_t>(text[at + 2]) & 0x3F);
}

void AppendFour(uint32_t code, std::string* out) {
  out->push_back(static_cast<char>(0xF0 | code >> 18));
  out->push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
  out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
  out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
}

// A range of 2,048 private-use characters that the text has neither as such nor as an escape; 0: none.
uint32_t FreeBase(absl::string_view text) {
  bool used[3] = {};
  for (size_t at = 0; at < text.size(); ++at) {
    uint32_t code = 0;
    if (text[at] == '\\') {
      code = EscapeAt(text, at);
    } else if (static_cast<uint8_t>(text[at]) >= 0xEE) {
      code = CharacterOfThree(text, at);
    }
    if (code >= 0xE000 && code < 0xF800) used[(code - 0xE000) / 0x800] = true;
  }
  for (uint32_t i = 0; i < 3; ++i) {
    if (!used[i]) return 0xE000 + i * 0x800;
  }
  return 0;
}

}  // namespace

Surrogates::Surrogates(absl::string_view text) : text_(text), base_(FreeBase(text)) {
  if (base_ == 0) return;
  size_t character = 0;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\\') {
      const uint32_t high = EscapeAt(text, at);
      const uint32_t low = IsHigh(high) ? EscapeAt(text, at + kEscape) : 0;
      if (IsLow(low)) {
        pairs_.push_back({character, std::string(text.substr(at, 2 * kEscape))});
        const std::string marks = absl::StrFormat("\\u%04X\\u%04X", high - 0xD800 + base_, low - 0xD800 + base_);
        std::memcpy(text_.data() + at, marks.data(), marks.size());
        at += 2 * kEscape;
        character += 2 * kEscape;
        continue;
      }
      // An escaped backslash does not begin another escape.
      const size_t step = at + 1 < text.size() && text[at + 1] == '\\' ? 2 : 1;
      at += step;
      character += step;
      continue;
    }
    if ((static_cast<uint8_t>(text[at]) & 0xC0) != 0x80) ++character;
    ++at;
  }
}

std::string Surrogates::Join(absl::string_view scalar) const {
  std::string out;
  out.reserve(scalar.size());
  for (size_t at = 0; at < scalar.size();) {
    const uint32_t high = CharacterOfThree(scalar, at) - base_;  // wraps around if it is none of ours
    const uint32_t low = CharacterOfThree(scalar, at + 3) - base_;
    if (high < 0x400 && low >= 0x400 && low < 0x800) {
      AppendFour(0x10000 + (high << 10) + (low - 0x400), &out);
      at += 6;
      continue;
    }
    out.push_back(scalar[at++]);
  }
  return out;
}

std::string Surrogates::Restore(absl::string_view scalar, size_t begin, size_t end) const {
  std::string out(scalar);
  auto pair = std::lower_bound(pairs_.begin(), pairs_.end(), begin,
                               [](const Pair& p, size_t character) { return p.character < character; });
  for (size_t at = 0; at < out.size() && pair != pairs_.end() && pair->character < end;) {
    const uint32_t code = EscapeAt(out, at) - base_;
    const uint32_t next = EscapeAt(out, at + kEscape) - base_;
    if (code < 0x400 && next >= 0x400 && next < 0x800) {
      out.replace(at, 2 * kEscape, pair->original);
      ++pair;
      at += 2 * kEscape;
    } else {
      ++at;
    }
  }
  return out;
}

}  // namespace orch::spec
