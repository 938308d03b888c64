// Asks a cluster how it is, and what its account may do there.
#pragma once

#include <string>

#include "backends/api/backend.h"
#include "backends/kubernetes/config.h"

namespace orch::kubernetes {

// What the account needs in its namespace; the same as docs/kubernetes.md says.
struct Right {
  const char* group;
  const char* resource;
  const char* verb;
  bool needed;  // false: without it something is told less well
};
extern const Right kRights[];
extern const int kRightCount;

// Changes nothing; at most ten seconds.
ProbeReport ProbeCluster(const Config& config, const std::string& instance, const std::string& orchestrator);

}  // namespace orch::kubernetes
