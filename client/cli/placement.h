// What the verbs about orchestrators share.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/cli/table.h"
#include "orch/v1/orchestrator.pb.h"

namespace orch::cli {

// Its state in one word.
Cell HealthCell(const v1::OrchestratorHealth& health);
// Submissions a second, `5` or `0.2`.
absl::StatusOr<double> ParseRate(const std::string& text);

}  // namespace orch::cli
