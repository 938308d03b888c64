// The steps of a run in pages: stored rows, and in their places the steps that have none yet.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "orch/v1/run.pb.h"
#include "server/engine/engine.h"
#include "server/rpc/filter.h"

namespace orch::rpc {

struct StepPage {
  std::vector<v1::Step> steps;
  // Set: go on at this number. The page may be short, even empty, all the same: only so many steps are looked at.
  std::optional<StepIx> next;
};

// At most `limit` steps in the order of the pipeline, or against it, from number `from` on (nullopt: the first).
absl::StatusOr<StepPage> ReadSteps(Engine& engine, const store::RunRecord& run, const Graph& graph,
                                   const StepTerms& terms, bool descending, std::optional<StepIx> from, int limit);

// Fills `outputs`: ids of landed artifacts, by output name.
absl::Status AddOutputs(Engine& engine, const store::RunRecord& run, const Graph& graph, v1::Step* step);

}  // namespace orch::rpc
