// The filters of lists: terms joined by AND, `state=RUNNING AND label.team=vision AND name:digits`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/queries.h"

namespace orch::rpc {

// INVALID_ARGUMENT (FILTER_INVALID) names the term and the words that are known.
absl::StatusOr<store::RunFilter> ParseRunFilter(absl::string_view text);

struct StepTerms {
  std::vector<StepState> states;  // any of; empty: all
  std::string template_name;
  std::string name_contains;
};
absl::StatusOr<StepTerms> ParseStepFilter(absl::string_view text);

}  // namespace orch::rpc
