#include "backends/kubernetes/job_kind.h"

#include <nlohmann/json.hpp>

namespace orch::kubernetes {

const JobKind& JobsOfKubernetes() {
  static const auto* const kKind = new JobKind{"Job", "batch/v1", "jobs",  "docs/kubernetes.md", PodShape(), false,
                                               "",    JobOf,      ReadJob, /*secret_after=*/true};
  return *kKind;
}

}  // namespace orch::kubernetes
