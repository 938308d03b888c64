// A platform in this process that does what each step's settings say: for tests and benchmarks, not for work. What it
// can do is in README.md.
#pragma once

#include <memory>

#include "backends/api/backend.h"
#include "backends/api/registry.h"

namespace orch {

// The row of the registry; hidden unless the daemon enables it.
FlavorInfo FakeFlavor();

// INVALID_ARGUMENT (CONFIG_INVALID) with all that is wrong in the configuration. Files go below
// `context.data_dir`/fake/`context.orchestrator`; nothing is made there before something has to be written.
absl::StatusOr<std::unique_ptr<Backend>> MakeFakeBackend(const BackendContext& context);

}  // namespace orch
