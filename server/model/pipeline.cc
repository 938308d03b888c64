#include "server/model/pipeline.h"

namespace orch {

const StepOptions& StepSpec::options() const {
  static const auto* const kDefaults = new StepOptions();
  return set_options ? *set_options : *kDefaults;
}

StepOptions& StepSpec::mutable_options() {
  if (!set_options) set_options = std::make_unique<StepOptions>();
  return *set_options;
}

}  // namespace orch
