// The `kubernetes` flavor: a step is a Job of a Kubernetes cluster, spoken to over its HTTP API.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"

namespace orch {

// INVALID_ARGUMENT (CONFIG_INVALID, KUBECONFIG_INVALID) with all faults of the configuration, NOT_FOUND
// (KUBECONFIG_MISSING). Of one that served before only the former: its cluster may be back later.
absl::StatusOr<std::unique_ptr<Backend>> MakeKubernetesBackend(const BackendContext& context);

FlavorInfo KubernetesFlavor();

}  // namespace orch
