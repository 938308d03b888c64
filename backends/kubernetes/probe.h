// Asks a cluster how it is, and what its account may do there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backends/api/backend.h"
#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/job_kind.h"

namespace orch::kubernetes {

// What the account needs in its namespace; the same as docs/kubernetes.md says.
struct Right {
  const char* group;
  const char* resource;
  const char* verb;
  bool needed;  // false: without it something is told less well
};
std::vector<Right> RightsForJobs();

// Of a flavor.
struct ProbeSubject {
  const JobKind* kind = nullptr;
  std::vector<Right> rights;
  std::string absent, absent_fix;  // where the cluster does not know its kind
  std::optional<ClusterTarget> kept;
};

// Changes nothing; at most ten seconds.
ProbeReport ProbeCluster(const ProbeSubject& subject, const Config& config, const std::string& instance,
                         const std::string& orchestrator);

}  // namespace orch::kubernetes
