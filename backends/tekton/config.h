// The configuration of an orchestrator of flavor `tekton`: that of `kubernetes`, and what Tekton adds.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "backends/kubernetes/config.h"

namespace orch::tekton {

struct Config {
  kubernetes::Config pods;
  bool whole_runs = false;  // runs are PipelineRuns where they can be
  std::string dashboard;    // Tekton's: `https://tekton.example.org`; empty: there is none
};

// `text` is a JSON object. INVALID_ARGUMENT (CONFIG_INVALID) with all faults.
absl::StatusOr<Config> ReadConfig(const std::string& text);
std::string ConfigSchema();

}  // namespace orch::tekton
