// Compile turns a pipeline as written into the graph of its runs, or says everything that is wrong with it.
#pragma once

#include <memory>
#include <vector>

#include "server/base/status.h"
#include "server/model/graph.h"

namespace orch {

struct CompileLimits {
  int64_t steps_per_run = 1'000'000;
  int64_t fanout_width = 100'000;
  int64_t outputs_per_run = 10'000'000;     // instances times their outputs: 8 bytes each in every live run
  int64_t item_links = 20'000'000;          // pairs of instances of all inputs by `[item]`: 4 bytes each, and the work
  int64_t item_bytes = int64_t{256} << 20;  // of all items of a fan-out made at run time
  int64_t expressions = 500;                // different `when` texts: each costs some 13 ms before its first use
};

struct Compiled {
  std::shared_ptr<const Graph> graph;  // null if there are violations
  std::vector<Violation> violations;   // fields as paths from the pipeline: `steps[3].inputs.table.from`
  std::vector<Violation> warnings;
};

// Pure. Checks references, cycles, fan-outs, templates, limits, and what this build cannot do; names and ranges of
// single fields have been checked where the message was read.
Compiled Compile(PipelineSpec spec, const CompileLimits& limits);

// The slots a step takes, by pool.
std::vector<Demand> DemandsOf(const StepOptions& options);

// A step's input as written in `from`: `step.output`, `step[*].output`, `step[item].output`, `step[3].output`.
struct StepReference {
  std::string step;
  enum class Selector : uint8_t { kPlain, kAll, kItem, kIndex } selector = Selector::kPlain;
  uint32_t index = 0;
  std::string output;
};
std::optional<StepReference> ParseStepReference(absl::string_view text);

// An input's artifact from outside the run: `name`, or `name@3`.
struct ArtifactReference {
  std::string name;
  int64_t version = 0;  // 0: the newest
};
std::optional<ArtifactReference> ParseArtifactReference(absl::string_view text);

// The variable of an input or output: `ORCH_INPUT_` and the name in upper case, other characters as `_`.
std::string VariableName(absl::string_view prefix, absl::string_view name);

}  // namespace orch
