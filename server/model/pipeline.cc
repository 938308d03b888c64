#include "server/model/pipeline.h"

namespace orch {

const StepOptions& StepSpec::options() const {
  static const auto* const kDefaults = new StepOptions();
  return set_options.get() != nullptr ? *set_options.get() : *kDefaults;
}

StepOptions& StepSpec::mutable_options() { return set_options.make(); }

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
