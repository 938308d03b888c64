// An attempt as a TaskRun, and what Tekton says of one. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "backends/kubernetes/job_kind.h"
#include "backends/kubernetes/views.h"

namespace orch::tekton {

inline constexpr char kApiVersion[] = "tekton.dev/v1";

nlohmann::json TaskRunOf(const AttemptWork& work, const kubernetes::Config& config, const kubernetes::JobFacts& facts);
kubernetes::JobView ReadTaskRun(const nlohmann::json& object, const std::string& selector);

const kubernetes::JobKind& TaskRuns();

}  // namespace orch::tekton
