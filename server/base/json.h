// Writing JSON text; for reading use nlohmann-json.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace orch {

// `text` as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD.
std::string JsonQuote(absl::string_view text);

}  // namespace orch
