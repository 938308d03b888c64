// The `tekton` flavor: a step is a TaskRun of Tekton's, in a cluster that is spoken to over its HTTP API.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"

namespace orch {

// As MakeKubernetesBackend.
absl::StatusOr<std::unique_ptr<Backend>> MakeTektonBackend(const BackendContext& context);

FlavorInfo TektonFlavor();

}  // namespace orch
