// The command and environment of a step as far as they are known from outside: parameters, items and names are filled
// in; paths of inputs and outputs, which belong to an attempt, stay as written.
#pragma once

#include "orch/v1/run.pb.h"
#include "server/model/graph.h"
#include "server/store/queries.h"

namespace orch::rpc {

// `own_environment`: of the submitter's nothing is in the step's.
void AddCommand(const store::RunRecord& run, const Graph& graph, StepIx ix, bool own_environment, v1::Step* step);

}  // namespace orch::rpc
