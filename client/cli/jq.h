// jq expressions over answers, for --jq.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::cli {

// The results in order; strings without their quotes, everything else as compact JSON. `json` must be one JSON text.
// INVALID_ARGUMENT (JQ_INVALID) if the expression does not compile or fails on this input.
absl::StatusOr<std::vector<std::string>> RunJq(absl::string_view json, absl::string_view expression);

}  // namespace orch::cli
