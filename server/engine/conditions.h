// The `when` of steps: checked at submission, evaluated when a step is ready.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/engine/inputs.h"
#include "server/engine/run_context.h"
#include "server/jq/evaluator.h"

namespace orch {

// Any thread; may block.
class Conditions {
 public:
  // `helper` is the path of orch-jq. `inputs` outlives it.
  Conditions(const std::string& helper, Inputs* inputs);

  // Of a pipeline about to be stored: every text must be a jq expression, and one that looks at parameters alone must
  // be true or false with these (`parameters_json`, an object; empty: not known). Fields `steps[N].when`. Texts that
  // are refused for what they say are left to Compile.
  std::vector<Violation> Check(const PipelineSpec& spec, const std::string& parameters_json);

  // Does the condition of a step hold? `values` as in Intent::when_values. INVALID_ARGUMENT (WHEN_INVALID): it cannot
  // be told, and why.
  absl::StatusOr<bool> Hold(const RunContext& run, StepIx ix, const std::vector<ArtifactId>& values);

 private:
  absl::StatusOr<bool> Evaluate(jq::Evaluator* evaluator, const std::string& when, const std::string& input);
  absl::StatusOr<std::string> InputOf(const RunContext& run, StepIx ix, const std::vector<ArtifactId>& values);

  Inputs* const inputs_;
  jq::Evaluator checks_;  // a submission with many new texts keeps nobody's step waiting
  jq::Evaluator steps_;
  Mutex mutex_;
  std::set<std::string> good_ ABSL_GUARDED_BY(mutex_);  // texts that are jq expressions
};

}  // namespace orch
