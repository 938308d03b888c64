// How long a run would take: its graph played with known durations over the slots that there are, in the order in which
// the dispatcher starts steps.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/model/graph.h"

namespace orch {

struct EstimateInput {
  const Graph* graph = nullptr;
  std::vector<int64_t> micros;              // by step: how long it takes; 0: nothing, or unknown
  std::map<std::string, int64_t> capacity;  // by pool: `ORCHESTRATOR/cpu`, `ORCHESTRATOR/parallel`, `pool/NAME`
  std::string orchestrator;                 // of steps that name none
  int max_parallel = 0;                     // of the run; 0: no limit
  int priority = 0;
};

struct Estimate {
  int64_t total_micros = 0;
  std::vector<int64_t> starts;   // by step, from the start of the run
  std::vector<StepIx> order;     // as they would start
  std::vector<StepIx> critical;  // the longest way through the graph, by durations alone
};

// Pure. O(steps × log steps), and the sum of fan-ins.
Estimate EstimateRun(const EstimateInput& input);

}  // namespace orch
