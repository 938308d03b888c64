#include "server/core/definition.h"

#include <algorithm>

namespace orch {
namespace {

bool SameInputs(const StepSpec& a, const StepSpec& b) {
  return std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), b.inputs.end(),
                    [](const InputSpec& x, const InputSpec& y) {
                      return x.name == y.name && x.source == y.source && x.ref == y.ref && x.early == y.early;
                    });
}

bool SameOutputs(const StepSpec& a, const StepSpec& b) {
  return std::equal(a.outputs.begin(), a.outputs.end(), b.outputs.begin(), b.outputs.end(),
                    [](const OutputSpec& x, const OutputSpec& y) {
                      return x.name == y.name && x.type == y.type && x.value == y.value && x.as == y.as;
                    });
}

}  // namespace

bool SameForeach(const StepSpec& a, const StepSpec& b) {
  return std::equal(a.foreach.begin(), a.foreach.end(), b.foreach.begin(), b.foreach.end(),
                    [](const ForeachKey& x, const ForeachKey& y) {
                      return x.key == y.key && x.values_json == y.values_json && x.from == y.from;
                    });
}

bool SameDefinition(const StepSpec& a, const StepSpec& b) {
  const StepOptions& x = a.options();
  const StepOptions& y = b.options();
  return a.command == b.command && SameInputs(a, b) && SameOutputs(a, b) && a.after == b.after && x.when == y.when &&
         x.trigger_rule == y.trigger_rule && x.params == y.params && x.image == y.image &&
         x.image_build == y.image_build && x.working_dir == y.working_dir && x.env == y.env && x.secrets == y.secrets &&
         x.orchestrator == y.orchestrator && x.settings == y.settings && x.source_path == y.source_path &&
         x.source_ignore == y.source_ignore;
}

bool SameSteps(const Graph& before, const Graph& after) {
  const std::vector<StepSpec>& old_steps = before.spec().steps;
  const std::vector<StepSpec>& new_steps = after.spec().steps;
  if (old_steps.size() != new_steps.size()) return false;
  for (size_t t = 0; t < old_steps.size(); ++t) {
    if (old_steps[t].name != new_steps[t].name || before.templates()[t].fan_out != after.templates()[t].fan_out ||
        !SameForeach(old_steps[t], new_steps[t])) {
      return false;
    }
  }
  return true;
}

}  // namespace orch
