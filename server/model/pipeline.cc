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

absl::string_view Name(TriggerRule rule) {
  switch (rule) {
    case TriggerRule::kAllSuccess:
      return "all_success";
    case TriggerRule::kAllDone:
      return "all_done";
    case TriggerRule::kOneSuccess:
      return "one_success";
    case TriggerRule::kOneFailed:
      return "one_failed";
    case TriggerRule::kAllFailed:
      return "all_failed";
    case TriggerRule::kNoneFailed:
      return "none_failed";
  }
  return "?";
}

}  // namespace orch
