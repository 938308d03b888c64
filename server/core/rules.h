// The rules a step follows, each a pure function: trigger rules, retries, back-off.
#pragma once

#include <cstdint>
#include <string>

#include "server/model/attempt_end.h"
#include "server/model/pipeline.h"
#include "server/model/states.h"

namespace orch {

// How the upstreams of a step ended, as a set.
inline constexpr uint8_t kSeenOk = 1;
inline constexpr uint8_t kSeenBad = 2;
inline constexpr uint8_t kSeenSkipped = 4;

// What an ended step is for its dependants. A step skipped because of a bad one is bad itself.
uint8_t OutcomeOf(StepState state, Reason reason);

// kNone if the rule is met; otherwise why not: UPSTREAM_FAILED, UPSTREAM_SKIPPED or TRIGGER_RULE.
Reason JudgeTrigger(TriggerRule rule, uint8_t seen);

// What is left of a step's attempts.
struct RetryBudget {
  int charged = 0;   // attempts that count against max_attempts
  int platform = 0;  // attempts whose command never began
};

// True if an ended attempt counts against platform_attempts.
bool IsPlatformFailure(const AttemptEnd& end);
// True if another attempt is allowed after `end`, which `budget` counts already.
bool MayRetry(const RetryPolicy& policy, const AttemptEnd& end, Reason stop_reason, const RetryBudget& budget);
// The wait before the attempt after the n-th failed one; `seed` decides the jitter.
int64_t BackoffMicros(const RetryPolicy& policy, int failures, const std::string& seed);

// The attempt's name on its platform and its fencing token: deterministic, [a-z2-7]{20}.
std::string AttemptKey(const std::string& instance, const std::string& run_id, uint32_t step_index, uint32_t attempt);

}  // namespace orch
