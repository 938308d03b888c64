// The filters and orders of lists: terms joined by AND, `state=RUNNING,PAUSED AND label.team=vision AND name:digits`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/queries.h"

namespace orch::rpc {

// INVALID_ARGUMENT (FILTER_INVALID) names the term and the fields that are indexed.
absl::StatusOr<store::RunFilter> ParseRunFilter(absl::string_view text);

struct StepTerms {
  std::vector<StepState> states;  // any of; empty: all
  std::string template_name;
  std::string name;
  std::string name_contains;
};
absl::StatusOr<StepTerms> ParseStepFilter(absl::string_view text);

// True if a run with this header passes; its state is not asked. As a list would choose it.
bool Passes(const store::RunFilter& filter, const RunHeader& run);

struct EventTerms {
  std::vector<EventType> types;  // any of; empty: all
  std::string step;              // a step's name
};
absl::StatusOr<EventTerms> ParseEventFilter(absl::string_view text);

// `create_time`, `name`, each alone or with ` asc` or ` desc`; empty: newest first. INVALID_ARGUMENT (ORDER_BY_INVALID)
// names what there is.
absl::StatusOr<store::RunOrder> ParseRunOrder(absl::string_view text);
// `index`, in the same manner; true: descending.
absl::StatusOr<bool> ParseStepOrder(absl::string_view text);

}  // namespace orch::rpc
