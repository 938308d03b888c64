// Makes a failing plan smaller: the same failure with fewer runs, steps and faults is easier to read.
#pragma once

#include <functional>
#include <string>

#include "tests/sim/plan.h"

namespace orch::sim {

// Empty: nothing broke.
using PlayPlan = std::function<std::string(const Plan&)>;

// The smallest plan found that still fails, within about `most` plays.
Plan Shrink(Plan failing, const PlayPlan& play, int most);

}  // namespace orch::sim
