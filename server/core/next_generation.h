// What a run goes on with when it is retried: which steps its next generation has, and which of them are not what they
// were.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

struct NextGeneration {
  std::shared_ptr<const Graph> graph;
  // Set if its steps get numbers of their own, as in RunRetried.
  std::string numbering;
  std::vector<FanoutRow> fanouts;
};

// The steps of a run that has this graph, made of `old_pipeline`, and goes on with `pipeline`. `fanouts` is what its
// fan-outs made at run time became; `numbered`: its steps have numbers of their own already. A fan-out that is the same
// in both keeps its instances.
absl::StatusOr<NextGeneration> GoOnWith(RunKey run, const Graph& before, const Graph& old_pipeline, bool numbered,
                                        const std::vector<FanoutRow>& fanouts,
                                        const std::shared_ptr<const Graph>& pipeline);

// The steps of the next generation that were in the one before and are others now: by what they do, by their item, by
// what they read, or because `touched` says so of the step as written. New steps are not among them.
std::vector<StepIx> ChangedSteps(const Graph& before, const Graph& after,
                                 const std::function<bool(const StepSpec&)>& touched);

}  // namespace orch
