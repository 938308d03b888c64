// Which steps of a run that has ended begin again when it is retried.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "server/core/messages.h"
#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

// By step: whether it is reopened, or new. Those that were asked for or did not succeed, with all that depends on them,
// and with those before them whose outputs they read and that are there no more: retention may have taken them, and
// without them they would begin with less than they ask for.
std::vector<bool> StepsToReopen(const RunRetried& event);

// Where an output of a step is in the run's table of outputs, as Graph::OutputSlot; nothing if it does not count (any
// more). `earlier_attempts`: those of earlier generations.
std::optional<uint32_t> CountingSlot(const Graph& graph, const ArtifactRow& artifact, StepState state,
                                     uint32_t earlier_attempts);

}  // namespace orch
