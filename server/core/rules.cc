#include "server/core/rules.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"

namespace orch {

uint8_t OutcomeOf(StepState state, Reason reason) {
  if (IsOk(state)) return kSeenOk;
  if (state == StepState::kSkipped && reason != Reason::kUpstreamFailed) return kSeenSkipped;
  return kSeenBad;
}

Reason JudgeTrigger(TriggerRule rule, uint8_t seen) {
  const bool ok = (seen & kSeenOk) != 0;
  const bool bad = (seen & kSeenBad) != 0;
  const bool skipped = (seen & kSeenSkipped) != 0;
  const Reason unmet = bad ? Reason::kUpstreamFailed : Reason::kUpstreamSkipped;
  switch (rule) {
    case TriggerRule::kAllSuccess:
      return !bad && !skipped ? Reason::kNone : unmet;
    case TriggerRule::kAllDone:
      return Reason::kNone;
    case TriggerRule::kOneSuccess:
      return ok ? Reason::kNone : unmet;
    case TriggerRule::kOneFailed:
      return bad ? Reason::kNone : Reason::kTriggerRule;
    case TriggerRule::kAllFailed:
      return bad && !ok && !skipped ? Reason::kNone : Reason::kTriggerRule;
    case TriggerRule::kNoneFailed:
      return !bad ? Reason::kNone : Reason::kUpstreamFailed;
  }
  return Reason::kTriggerRule;
}

bool IsPlatformFailure(const AttemptEnd& end) {
  switch (end.reason) {
    case Reason::kUnschedulable:
    case Reason::kImagePullFailed:
      return true;
    case Reason::kSubmitRefused:
    case Reason::kEvicted:
    case Reason::kPreempted:
    case Reason::kNodeLost:
      return end.never_started;
    default:
      return false;
  }
}

bool MayRetry(const RetryPolicy& policy, const AttemptEnd& end, Reason stop_reason, const RetryBudget& budget) {
  if (IsPlatformFailure(end)) return budget.platform < policy.platform_attempts;
  if (budget.charged >= policy.max_attempts) return false;
  if (stop_reason == Reason::kRunTimeout || stop_reason == Reason::kQueueTimeout ||
      stop_reason == Reason::kHeartbeatTimeout) {
    return policy.on_timeout;
  }
  if (end.reason == Reason::kLost) return policy.on_lost;
  if (end.reason == Reason::kOutOfMemory) return policy.on_oom;  // the same again would mostly end the same way
  if (!policy.on_failed) return false;
  if (policy.exit_codes.empty()) return true;
  return end.exit_code.has_value() &&
         std::find(policy.exit_codes.begin(), policy.exit_codes.end(), *end.exit_code) != policy.exit_codes.end();
}

int64_t BackoffMicros(const RetryPolicy& policy, int failures, const std::string& seed) {
  double wait = static_cast<double>(policy.initial_micros) * std::pow(policy.multiplier, std::max(0, failures - 1));
  wait = std::min(wait, static_cast<double>(policy.max_micros));
  if (policy.jitter > 0) {
    const std::string hash = Sha256Of(seed);
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; ++i) bits = (bits << 8) | static_cast<unsigned char>(hash[i]);
    const double share = 2.0 * (static_cast<double>(bits) / 4294967295.0) - 1.0;  // -1 to 1
    wait = std::min(wait * (1.0 + policy.jitter * share), static_cast<double>(policy.max_micros));
  }
  return std::max<int64_t>(0, static_cast<int64_t>(wait));
}

std::string AttemptKey(const std::string& instance, const std::string& run_id, uint32_t step_index, uint32_t attempt) {
  return Base32(Sha256Of(absl::StrCat(instance, "/", run_id, "/", step_index, "/", attempt))).substr(0, 20);
}

}  // namespace orch
