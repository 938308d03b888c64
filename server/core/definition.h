// What two versions of a pipeline have in common, for a run that goes on with a corrected one.
#pragma once

#include "server/model/graph.h"

namespace orch {

// True if both do the same: command, environment, data, conditions, where it runs. How often it is tried, for how long
// it may take, what it needs of the machine, what it fans out over and what it is called besides do not count.
bool SameDefinition(const StepSpec& a, const StepSpec& b);

// True if both fan out over the same values, or over the lists of the same outputs.
bool SameForeach(const StepSpec& a, const StepSpec& b);

// True if both have the same steps under the same numbers: names, order, fan-outs and their values.
bool SameSteps(const Graph& before, const Graph& after);

}  // namespace orch
