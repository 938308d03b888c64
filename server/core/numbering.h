// The numbers of a run's steps. They follow from its pipeline, until the run is retried with one that has other steps:
// then what stays keeps its number, what is new is numbered behind all others, and the numbers of what is gone are not
// given again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

struct NumberedStep {
  std::string name;  // as written
  bool fan_out = false;
  bool removed = false;
  StepNumbers numbers;
};
// First the steps of the pipeline, in their order, then those that have been removed.
using Numbering = std::vector<NumberedStep>;

// The numbers with which a run that has this graph goes on with that pipeline. A step is known by its name: one that
// was a plain step, a fan-out, or a fan-out made at run time, and is another of these now, is a new one.
Numbering Renumber(const Graph& before, const Graph& pipeline);

// The graph of a run of this pipeline whose steps have these numbers; no fan-out has been made at run time. DATA_LOSS
// (DATABASE_CORRUPT) for numbers that its steps cannot have.
absl::StatusOr<std::shared_ptr<const Graph>> WithNumbering(const Graph& pipeline, const Numbering& numbering);

// As the store keeps it; never empty.
std::string EncodeNumbering(const Numbering& numbering);
// False for bytes that EncodeNumbering did not make.
bool DecodeNumbering(absl::string_view bytes, Numbering* numbering);

// The graph of a run from what the store has: its pipeline's, its numbering (empty: it follows from the pipeline), and
// what its fan-outs became since. DATA_LOSS (DATABASE_CORRUPT) if these do not fit each other.
absl::StatusOr<std::shared_ptr<const Graph>> StoredGraph(std::shared_ptr<const Graph> pipeline,
                                                         absl::string_view numbering,
                                                         const std::vector<FanoutRow>& fanouts);

}  // namespace orch
