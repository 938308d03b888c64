// Texts that came from outside: are they UTF-8, and can they be shown?
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace orch {

// The length in bytes of the well-formed sequence that begins at `at`, a place in `text`; 0 if none does.
size_t Utf8Length(absl::string_view text, size_t at);

// The well-formed sequence of `length` bytes at `at` is a control character (C0, DEL, C1), a line or paragraph
// separator, a byte order mark or no character at all. These are what YAML forbids or folds, and what a terminal may
// act on.
bool IsControl(absl::string_view text, size_t at, size_t length);

// Every character is well-formed, whatever it is.
bool IsUtf8(absl::string_view text);

// What is no UTF-8 replaced by U+FFFD, a byte at a time.
std::string ToUtf8(absl::string_view text);

// UTF-8 without control characters: one line that can be shown and quoted anywhere.
bool IsPrintable(absl::string_view text);

}  // namespace orch
