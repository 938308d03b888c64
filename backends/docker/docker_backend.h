// The `local_docker` flavor: a step is a container of a Docker engine on this machine, spoken to over its HTTP API.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"

namespace orch {

// INVALID_ARGUMENT (CONFIG_INVALID) with all faults of the configuration.
absl::StatusOr<std::unique_ptr<Backend>> MakeDockerBackend(const BackendContext& context);

FlavorInfo DockerFlavor();

}  // namespace orch
