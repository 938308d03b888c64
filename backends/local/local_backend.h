// The `local` flavor: steps are processes of this machine, kept by a supervisor that outlives the daemon.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"

namespace orch {

// INVALID_ARGUMENT (CONFIG_INVALID) with all faults of the configuration.
absl::StatusOr<std::unique_ptr<Backend>> MakeLocalBackend(const BackendContext& context);

FlavorInfo LocalFlavor();

}  // namespace orch
