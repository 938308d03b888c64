// A pod's template as what Tekton makes such a pod from: the steps of a task, and what its own pod template has a place
// for. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/base/status.h"

namespace orch::tekton {

inline constexpr char kMainStep[] = "main";
inline constexpr char kLauncherStep[] = "launcher";

struct Task {
  nlohmann::json spec;  // TaskSpec
  nlohmann::json labels, annotations;
  nlohmann::json pod_template;
  std::string service_account;
};

// `pod_template`: a PodTemplateSpec as kubernetes' manifest.h makes them, with the patches of its settings. What Tekton
// has no place for, or would take for something else, is appended to `faults`, with paths in the template.
Task TaskOf(const nlohmann::json& pod_template, std::vector<Violation>* faults);

}  // namespace orch::tekton
