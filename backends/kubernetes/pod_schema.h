// What a pod template may say, by the types of Kubernetes' core/v1: to check what users write before anything is asked
// of a cluster, and to merge patches as `kubectl patch --type strategic` does. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::kubernetes {

struct Fault {
  std::string field;  // below what was checked: `spec.containers[0].image`; empty: the whole
  std::string what;
};

// `type`: as in the table (`PodTemplateSpec`, `[Toleration]`, `m`: a map of texts). All that is wrong is appended;
// `field` is what the paths begin with. A `patch` may have nulls, which remove, and `$patch: replace|delete`.
void CheckPod(const nlohmann::json& value, absl::string_view type, const std::string& field, bool patch,
              std::vector<Fault>* faults);

// `patch`, checked as one of `type`, over `base`: maps are merged by key, lists as the table says (by name, by mount
// path, …) or replaced.
void MergePod(absl::string_view type, const nlohmann::json& patch, nlohmann::json* base);

}  // namespace orch::kubernetes
