// JSON writes characters beyond U+FFFF as two escapes, `\uD83D\uDE00`. YAML has no such thing and libyaml refuses them.
//
// Where a text was refused for that, each pair's halves are replaced by private-use characters of the same length that
// occur nowhere else in the text, so that all marks stay true; after parsing, Join() makes one character of two in a
// double-quoted scalar, and Restore() puts the original escape back where it was no escape (plain and block scalars).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::spec {

class Surrogates {
 public:
  explicit Surrogates(absl::string_view text);

  // False: there is no pair, or no room for replacements; the text stays as it is.
  bool found() const { return !pairs_.empty(); }
  const std::string& text() const { return text_; }

  std::string Join(absl::string_view scalar) const;
  // `begin` and `end` are the scalar's marks, in characters of the text.
  std::string Restore(absl::string_view scalar, size_t begin, size_t end) const;

 private:
  struct Pair {
    size_t character;  // where it begins
    std::string original;
  };

  std::string text_;
  uint32_t base_ = 0;  // D800 is replaced by this
  std::vector<Pair> pairs_;
};

}  // namespace orch::spec
