// The words for what a run, a step and an attempt can be in, with the same numbers as orch.v1.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace orch {

enum class RunState : uint8_t {
  kPending = 1,
  kRunning = 2,
  kPaused = 3,
  kHalting = 4,
  kCancelling = 5,
  kSucceeded = 6,
  kFailed = 7,
  kCancelled = 8,
};

enum class StepState : uint8_t {
  kWaiting = 1,
  kReady = 2,
  kSubmitting = 3,
  kQueued = 4,
  kRunning = 5,
  kBackoff = 6,
  kStopping = 7,
  kSucceeded = 8,
  kCached = 9,
  kFailed = 10,
  kCancelled = 11,
  kSkipped = 12,
};
inline constexpr int kStepStateCount = 13;  // array size; index 0 is unused

enum class AttemptState : uint8_t {
  kNone = 0,
  kSubmitting = 1,
  kQueued = 2,
  kRunning = 3,
  kStoring = 4,
  kSucceeded = 5,
  kFailed = 6,
  kTimedOut = 7,
  kLost = 8,
  kCancelled = 9,
};

enum class HookState : uint8_t {
  kPending = 1,  // it waits for its turn
  kRunning = 2,
  kSucceeded = 3,
  kFailed = 4,
  kTimedOut = 5,
};

// Same numbers as orch.v1.Reason.Code.
enum class Reason : uint8_t {
  kNone = 0,
  kExitCode = 1,
  kSignaled = 2,
  kOutOfMemory = 3,
  kOutputMissing = 4,
  kOutputInvalid = 5,
  kLogLimit = 6,
  kCommandNotFound = 7,
  kWorkingDirInvalid = 8,
  kInputMissing = 9,
  kStoreFailed = 10,
  kSecretMissing = 12,
  kQueueTimeout = 20,
  kRunTimeout = 21,
  kRunDeadline = 22,
  kHeartbeatTimeout = 23,
  kLost = 30,
  kSubmitRefused = 31,
  kSubmitUnknown = 32,
  kUnschedulable = 33,
  kImagePullFailed = 34,
  kEvicted = 35,
  kPreempted = 36,
  kNodeLost = 37,
  kUpstreamFailed = 50,
  kUpstreamSkipped = 51,
  kTriggerRule = 52,
  kWhenFalse = 53,
  kWhenInvalid = 54,
  kRunHalted = 55,
  kCancelRequested = 56,
  kStepFailed = 57,
  kSkipRequested = 58,
  kFanoutInvalid = 59,
  kCacheHit = 60,
  kStepRemoved = 61,
  kWaitingForInputs = 70,
  kWaitingForSlot = 71,
  kBackoffBeforeRetry = 72,
  kRunPaused = 73,
  kWaitingForLeader = 76,
  kInternal = 99,
};

constexpr bool IsTerminal(RunState s) {
  return s == RunState::kSucceeded || s == RunState::kFailed || s == RunState::kCancelled;
}
constexpr bool IsTerminal(StepState s) { return s >= StepState::kSucceeded; }
constexpr bool IsTerminal(HookState s) { return s >= HookState::kSucceeded; }
constexpr bool IsTerminal(AttemptState s) { return s >= AttemptState::kSucceeded; }
// An upstream that counts as ok for trigger rules.
constexpr bool IsOk(StepState s) { return s == StepState::kSucceeded || s == StepState::kCached; }

// Upper-case words as in orch.v1: `SUCCEEDED`, `EXIT_CODE`.
absl::string_view Name(RunState state);
absl::string_view Name(StepState state);
absl::string_view Name(AttemptState state);
absl::string_view Name(HookState state);
absl::string_view Name(Reason reason);

}  // namespace orch
