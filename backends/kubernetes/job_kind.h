// What stands for an attempt in the cluster and makes its pod: a Job, or what another flavor has instead.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "backends/api/backend.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/views.h"

namespace orch::kubernetes {

struct JobKind {
  std::string word;         // `Job`
  std::string api_version;  // `batch/v1`
  std::string resource;     // `jobs`
  std::string docs;         // where its rights are listed
  PodShape pod;
  // True if who makes the pods may also take them away, and says in the object why: it is waited for.
  bool has_verdict = false;
  // A merge patch that stops it, once its pod is told to end; empty: it is stopped by being deleted.
  std::string stop_patch;
  nlohmann::json (*make)(const AttemptWork& work, const Config& config, const JobFacts& facts);
  JobView (*read)(const nlohmann::json& object, const std::string& selector);
  // True if a pod whose Secret is not there yet waits for it. Then the object is made first, and the Secret as its own;
  // else the Secret comes first and is given to the object later, which is a request more.
  bool secret_after = false;
};

// Kubernetes' own.
const JobKind& JobsOfKubernetes();

}  // namespace orch::kubernetes
