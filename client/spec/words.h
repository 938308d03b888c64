// Names, and what somebody may have meant.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::spec {

// Letters, digits, `_ -` (and `.` if `dots`); begins with a letter or digit; 1 to 200 bytes.
bool IsName(absl::string_view name, bool dots);
// What IsName wants, for messages.
absl::string_view NameRule(bool dots);

// The form under which ORCH_INPUT_<NAME> is seen: upper case, all but letters and digits as `_`.
std::string VariableName(absl::string_view name);

// `did you mean `x`?` with the nearest word, or else the list of all; `words` is not empty.
std::string Suggest(absl::string_view word, const std::vector<absl::string_view>& words);

// For messages: at most 60 characters of `text`, without line ends, in back quotes.
std::string Quote(absl::string_view text);

}  // namespace orch::spec
