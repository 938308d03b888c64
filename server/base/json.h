// Writing JSON and YAML text; for reading use nlohmann-json and yaml-cpp.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace orch {

// `text` as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD.
std::string JsonQuote(absl::string_view text);

// The same, with escapes also for what JSON leaves as it is and YAML refuses or folds (IsControl): a scalar that both
// read as `text`.
std::string YamlQuote(absl::string_view text);

}  // namespace orch
