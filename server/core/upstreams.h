// What a step waits for: the one walk over a step's upstreams, for whoever explains.
#pragma once

#include <cstdint>
#include <vector>

#include "server/model/graph.h"

namespace orch {

struct Upstream {
  enum class Why : uint8_t {
    kGroup,  // the step is an instance of this fan-out, made at run time
    kList,   // a group fans out over what it makes; `number`: which key of its `foreach`
    kItems,  // a group has the instances of this fan-out
    kInput,  // `number`: which input
    kAfter,  // `number`: which of its `after`
  };
  Why why = Why::kInput;
  uint32_t number = 0;
  // Of a fan-out made at run time first the group, which alone stands for it while it has no instances.
  std::vector<StepRange> steps;
};

// In the order in which they are written. Of a step that has yet to become an instance again its group alone; of one
// that has been removed nothing.
std::vector<Upstream> UpstreamsOf(const Graph& graph, StepIx ix);

}  // namespace orch
