// What the `when` of a step may name, and what of it can be refused before anything runs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/base/status.h"
#include "server/model/graph.h"

namespace orch {

struct Condition {
  std::vector<WhenSource> sources;    // the steps it sees, by name
  std::vector<Violation> violations;  // fields `steps[N].when`
};

// Of step `t`, whose inputs are bound. Pure. A `when` sees `params` and the steps named in `inputs` or `after`, each
// with its value outputs: an object, or for all instances of a fan-out a list of them.
Condition CheckCondition(const PipelineSpec& spec, uint32_t t, const std::vector<InputBinding>& inputs,
                         const std::map<std::string, uint32_t>& by_name);

}  // namespace orch
