#include "server/model/states.h"

namespace orch {

absl::string_view Name(RunState state) {
  switch (state) {
    case RunState::kPending:
      return "PENDING";
    case RunState::kRunning:
      return "RUNNING";
    case RunState::kPaused:
      return "PAUSED";
    case RunState::kHalting:
      return "HALTING";
    case RunState::kCancelling:
      return "CANCELLING";
    case RunState::kSucceeded:
      return "SUCCEEDED";
    case RunState::kFailed:
      return "FAILED";
    case RunState::kCancelled:
      return "CANCELLED";
  }
  return "STATE_UNSPECIFIED";
}

absl::string_view Name(StepState state) {
  switch (state) {
    case StepState::kWaiting:
      return "WAITING";
    case StepState::kReady:
      return "READY";
    case StepState::kSubmitting:
      return "SUBMITTING";
    case StepState::kQueued:
      return "QUEUED";
    case StepState::kRunning:
      return "RUNNING";
    case StepState::kBackoff:
      return "BACKOFF";
    case StepState::kStopping:
      return "STOPPING";
    case StepState::kSucceeded:
      return "SUCCEEDED";
    case StepState::kCached:
      return "CACHED";
    case StepState::kFailed:
      return "FAILED";
    case StepState::kCancelled:
      return "CANCELLED";
    case StepState::kSkipped:
      return "SKIPPED";
  }
  return "STATE_UNSPECIFIED";
}

absl::string_view Name(AttemptState state) {
  switch (state) {
    case AttemptState::kNone:
      return "STATE_UNSPECIFIED";
    case AttemptState::kSubmitting:
      return "SUBMITTING";
    case AttemptState::kQueued:
      return "QUEUED";
    case AttemptState::kRunning:
      return "RUNNING";
    case AttemptState::kStoring:
      return "STORING";
    case AttemptState::kSucceeded:
      return "SUCCEEDED";
    case AttemptState::kFailed:
      return "FAILED";
    case AttemptState::kTimedOut:
      return "TIMED_OUT";
    case AttemptState::kLost:
      return "LOST";
    case AttemptState::kCancelled:
      return "CANCELLED";
  }
  return "STATE_UNSPECIFIED";
}

absl::string_view Name(HookState state) {
  switch (state) {
    case HookState::kPending:
      return "PENDING";
    case HookState::kRunning:
      return "RUNNING";
    case HookState::kSucceeded:
      return "SUCCEEDED";
    case HookState::kFailed:
      return "FAILED";
    case HookState::kTimedOut:
      return "TIMED_OUT";
  }
  return "?";
}

absl::string_view Name(Reason reason) {
  switch (reason) {
    case Reason::kNone:
      return "REASON_UNSPECIFIED";
    case Reason::kExitCode:
      return "EXIT_CODE";
    case Reason::kSignaled:
      return "SIGNALED";
    case Reason::kOutOfMemory:
      return "OUT_OF_MEMORY";
    case Reason::kOutputMissing:
      return "OUTPUT_MISSING";
    case Reason::kOutputInvalid:
      return "OUTPUT_INVALID";
    case Reason::kLogLimit:
      return "LOG_LIMIT";
    case Reason::kCommandNotFound:
      return "COMMAND_NOT_FOUND";
    case Reason::kWorkingDirInvalid:
      return "WORKING_DIR_INVALID";
    case Reason::kInputMissing:
      return "INPUT_MISSING";
    case Reason::kSecretMissing:
      return "SECRET_MISSING";
    case Reason::kStoreFailed:
      return "STORE_FAILED";
    case Reason::kQueueTimeout:
      return "QUEUE_TIMEOUT";
    case Reason::kRunTimeout:
      return "RUN_TIMEOUT";
    case Reason::kRunDeadline:
      return "RUN_DEADLINE";
    case Reason::kHeartbeatTimeout:
      return "HEARTBEAT_TIMEOUT";
    case Reason::kLost:
      return "LOST";
    case Reason::kSubmitRefused:
      return "SUBMIT_REFUSED";
    case Reason::kSubmitUnknown:
      return "SUBMIT_UNKNOWN";
    case Reason::kUnschedulable:
      return "UNSCHEDULABLE";
    case Reason::kImagePullFailed:
      return "IMAGE_PULL_FAILED";
    case Reason::kEvicted:
      return "EVICTED";
    case Reason::kPreempted:
      return "PREEMPTED";
    case Reason::kNodeLost:
      return "NODE_LOST";
    case Reason::kUpstreamFailed:
      return "UPSTREAM_FAILED";
    case Reason::kUpstreamSkipped:
      return "UPSTREAM_SKIPPED";
    case Reason::kTriggerRule:
      return "TRIGGER_RULE";
    case Reason::kWhenFalse:
      return "WHEN_FALSE";
    case Reason::kWhenInvalid:
      return "WHEN_INVALID";
    case Reason::kRunHalted:
      return "RUN_HALTED";
    case Reason::kCancelRequested:
      return "CANCEL_REQUESTED";
    case Reason::kStepFailed:
      return "STEP_FAILED";
    case Reason::kSkipRequested:
      return "SKIP_REQUESTED";
    case Reason::kFanoutInvalid:
      return "FANOUT_INVALID";
    case Reason::kStepRemoved:
      return "STEP_REMOVED";
    case Reason::kCacheHit:
      return "CACHE_HIT";
    case Reason::kWaitingForInputs:
      return "WAITING_FOR_INPUTS";
    case Reason::kWaitingForSlot:
      return "WAITING_FOR_SLOT";
    case Reason::kBackoffBeforeRetry:
      return "BACKOFF_BEFORE_RETRY";
    case Reason::kRunPaused:
      return "RUN_PAUSED";
    case Reason::kWaitingForLeader:
      return "WAITING_FOR_LEADER";
    case Reason::kInternal:
      return "INTERNAL";
  }
  return "REASON_UNSPECIFIED";
}

}  // namespace orch
