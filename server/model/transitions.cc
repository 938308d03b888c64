#include "server/model/transitions.h"

#include "absl/strings/str_cat.h"

namespace orch {
namespace {

using S = StepState;
using E = StepEvent;

constexpr StepTransition kSteps[] = {
    {S::kWaiting, E::kUpstreamsMet, S::kReady, "", "ask the condition and the cache, or wait for slots"},
    {S::kWaiting, E::kUpstreamsUnmet, S::kSkipped, "", "tell dependants"},
    {S::kWaiting, E::kEarlyProducerFailed, S::kSkipped, "", "tell dependants"},
    {S::kWaiting, E::kRunHalted, S::kSkipped, "", ""},
    {S::kWaiting, E::kCancelRequested, S::kCancelled, "", "tell dependants"},
    {S::kWaiting, E::kSkipRequested, S::kSkipped, "", "tell dependants"},
    {S::kWaiting, E::kRemoved, S::kSkipped, "a later generation of the run does not have it", ""},

    {S::kReady, E::kEarlyProducerFailed, S::kSkipped, "", "tell dependants"},
    {S::kReady, E::kRunHalted, S::kSkipped, "", ""},
    {S::kReady, E::kCancelRequested, S::kCancelled, "", "tell dependants"},
    {S::kReady, E::kSkipRequested, S::kSkipped, "", "tell dependants"},
    {S::kReady, E::kResolveFailed, S::kFailed, "", "tell dependants"},
    {S::kReady, E::kCacheHit, S::kCached, "entry and bytes exist", "its artifacts land; tell dependants"},
    {S::kReady, E::kWhenFalse, S::kSkipped, "", "tell dependants"},
    {S::kReady, E::kInputOpen, S::kWaiting, "an artifact from outside the run is not there yet", ""},
    {S::kReady, E::kFannedOut, S::kSucceeded, "a fan-out made at run time",
     "its instances are WAITING; tell dependants"},
    {S::kReady, E::kSlotGranted, S::kSubmitting, "run is RUNNING", "new attempt; SubmitAttempt; queue timer"},

    {S::kSubmitting, E::kAccepted, S::kQueued, "", "store the handle"},
    {S::kSubmitting, E::kRefusedForNow, S::kSubmitting, "", "SubmitAttempt again after a wait"},
    {S::kSubmitting, E::kStarted, S::kRunning, "", "run timer"},
    {S::kSubmitting, E::kCommandEnded, S::kRunning, "its start was not reported before", "StoreOutputs"},
    {S::kSubmitting, E::kSucceeded, S::kSucceeded, "no outputs", "ReleaseAttempt; tell dependants"},
    {S::kSubmitting, E::kFailedForRetry, S::kBackoff, "budget left", "ReleaseAttempt; retry timer"},
    {S::kSubmitting, E::kFailedForGood, S::kFailed, "", "ReleaseAttempt; tell dependants"},
    {S::kSubmitting, E::kStopRequested, S::kStopping, "", "CancelAttempt"},

    {S::kQueued, E::kHeldUp, S::kQueued, "", "say why"},
    {S::kQueued, E::kStarted, S::kRunning, "", "run timer"},
    {S::kQueued, E::kCommandEnded, S::kRunning, "its start was not reported before", "StoreOutputs"},
    {S::kQueued, E::kSucceeded, S::kSucceeded, "no outputs", "ReleaseAttempt; tell dependants"},
    {S::kQueued, E::kFailedForRetry, S::kBackoff, "budget left", "ReleaseAttempt; retry timer"},
    {S::kQueued, E::kFailedForGood, S::kFailed, "", "ReleaseAttempt; tell dependants"},
    {S::kQueued, E::kStopRequested, S::kStopping, "", "CancelAttempt"},

    {S::kRunning, E::kCommandEnded, S::kRunning, "phase becomes STORING", "free the slots; StoreOutputs"},
    {S::kRunning, E::kSucceeded, S::kSucceeded, "outputs have landed", "ReleaseAttempt; tell dependants"},
    {S::kRunning, E::kFailedForRetry, S::kBackoff, "budget left", "ReleaseAttempt; retry timer"},
    {S::kRunning, E::kFailedForGood, S::kFailed, "", "ReleaseAttempt; tell dependants"},
    {S::kRunning, E::kStopRequested, S::kStopping, "phase is not STORING", "CancelAttempt"},

    {S::kStopping, E::kSucceeded, S::kSucceeded, "its command had ended before the stop", "ReleaseAttempt"},
    {S::kStopping, E::kCommandEnded, S::kRunning, "its command had ended before the stop", "StoreOutputs"},
    {S::kStopping, E::kStopped, S::kCancelled, "the stop came from a cancel or the execution mode", "ReleaseAttempt"},
    {S::kStopping, E::kFailedForRetry, S::kBackoff, "the stop came from a time-out, budget left", "ReleaseAttempt"},
    {S::kStopping, E::kFailedForGood, S::kFailed, "the stop came from a time-out", "ReleaseAttempt"},

    {S::kBackoff, E::kRetryDue, S::kReady, "", ""},
    {S::kBackoff, E::kRunHalted, S::kFailed, "", "keeps the reason of its last attempt"},
    {S::kBackoff, E::kCancelRequested, S::kCancelled, "", "tell dependants"},
    {S::kBackoff, E::kSkipRequested, S::kSkipped, "", "tell dependants"},

    {S::kSucceeded, E::kReopened, S::kWaiting, "chosen, or a descendant of one", "its outputs do not count any more"},
    {S::kCached, E::kReopened, S::kWaiting, "chosen, or a descendant of one", "its outputs do not count any more"},
    {S::kFailed, E::kReopened, S::kWaiting, "chosen, or a descendant of one", "its budgets begin anew"},
    {S::kCancelled, E::kReopened, S::kWaiting, "chosen, or a descendant of one", "its budgets begin anew"},
    {S::kSkipped, E::kReopened, S::kWaiting, "chosen, or a descendant of one", ""},
};

using R = RunState;
using V = RunEvent;

constexpr RunTransition kRuns[] = {
    {R::kPending, V::kAdmitted, R::kRunning, "", "ready the roots"},
    {R::kPending, V::kCancelRequested, R::kCancelled, "", "all steps CANCELLED"},
    {R::kRunning, V::kStepFailed, R::kHalting, "mode fail_fast", "stop live steps; skip the rest"},
    {R::kRunning, V::kStepFailed, R::kHalting, "mode stop_on_failure", "skip what has not started"},
    {R::kRunning, V::kStepFailed, R::kRunning, "mode continue_on_failure", "dependants are skipped"},
    {R::kRunning, V::kCancelRequested, R::kCancelling, "", "stop live steps; cancel the rest"},
    {R::kRunning, V::kDeadlineReached, R::kHalting, "", "stop live steps; skip the rest"},
    {R::kRunning, V::kAllStepsEnded, R::kSucceeded, "no step failed", ""},
    {R::kRunning, V::kAllStepsEnded, R::kFailed, "a step failed", ""},
    {R::kRunning, V::kPauseRequested, R::kPaused, "", "nothing new starts; live steps go on"},
    {R::kPaused, V::kResumeRequested, R::kRunning, "", "what is READY asks the cache, or waits for slots"},
    {R::kPaused, V::kStepFailed, R::kHalting, "mode fail_fast", "stop live steps; skip the rest"},
    {R::kPaused, V::kStepFailed, R::kHalting, "mode stop_on_failure", "skip what has not started"},
    {R::kPaused, V::kStepFailed, R::kPaused, "mode continue_on_failure", "dependants are skipped"},
    {R::kPaused, V::kCancelRequested, R::kCancelling, "", "stop live steps; cancel the rest"},
    {R::kPaused, V::kDeadlineReached, R::kHalting, "", "stop live steps; skip the rest"},
    {R::kPaused, V::kAllStepsEnded, R::kSucceeded, "no step failed", ""},
    {R::kPaused, V::kAllStepsEnded, R::kFailed, "a step failed", ""},
    {R::kHalting, V::kStepFailed, R::kHalting, "", ""},
    {R::kHalting, V::kDeadlineReached, R::kHalting, "", "stop live steps"},
    {R::kHalting, V::kCancelRequested, R::kCancelling, "", "stop live steps"},
    {R::kHalting, V::kAllStepsEnded, R::kFailed, "", ""},
    {R::kCancelling, V::kStepFailed, R::kCancelling, "", ""},
    {R::kCancelling, V::kCancelRequested, R::kCancelling, "by force", "kill live steps"},
    {R::kCancelling, V::kAllStepsEnded, R::kCancelled, "", ""},
    {R::kFailed, V::kRetried, R::kRunning, "", "next generation; the chosen steps and their descendants to WAITING"},
    {R::kCancelled, V::kRetried, R::kRunning, "", "next generation; the chosen steps and their descendants to WAITING"},
};

}  // namespace

std::span<const StepTransition> StepTransitions() { return kSteps; }
std::span<const RunTransition> RunTransitions() { return kRuns; }

bool IsAllowed(StepState from, StepEvent event, StepState to) {
  for (const StepTransition& t : kSteps) {
    if (t.from == from && t.event == event && t.to == to) return true;
  }
  return false;
}

bool IsAllowed(RunState from, RunEvent event, RunState to) {
  for (const RunTransition& t : kRuns) {
    if (t.from == from && t.event == event && t.to == to) return true;
  }
  return false;
}

absl::string_view Name(StepEvent event) {
  switch (event) {
    case E::kUpstreamsMet:
      return "UpstreamsMet";
    case E::kUpstreamsUnmet:
      return "UpstreamsUnmet";
    case E::kEarlyProducerFailed:
      return "EarlyProducerFailed";
    case E::kRunHalted:
      return "RunHalted";
    case E::kCancelRequested:
      return "CancelRequested";
    case E::kResolveFailed:
      return "ResolveFailed";
    case E::kCacheHit:
      return "CacheHit";
    case E::kWhenFalse:
      return "WhenFalse";
    case E::kInputOpen:
      return "InputOpen";
    case E::kFannedOut:
      return "FannedOut";
    case E::kSlotGranted:
      return "SlotGranted";
    case E::kAccepted:
      return "Accepted";
    case E::kHeldUp:
      return "HeldUp";
    case E::kRefusedForNow:
      return "RefusedForNow";
    case E::kStarted:
      return "Started";
    case E::kCommandEnded:
      return "CommandEnded";
    case E::kSucceeded:
      return "Succeeded";
    case E::kFailedForRetry:
      return "FailedForRetry";
    case E::kFailedForGood:
      return "FailedForGood";
    case E::kStopRequested:
      return "StopRequested";
    case E::kStopped:
      return "Stopped";
    case E::kRetryDue:
      return "RetryDue";
    case E::kSkipRequested:
      return "SkipRequested";
    case E::kRemoved:
      return "Removed";
    case E::kReopened:
      return "Reopened";
  }
  return "?";
}

absl::string_view Name(RunEvent event) {
  switch (event) {
    case V::kAdmitted:
      return "Admitted";
    case V::kStepFailed:
      return "StepFailed";
    case V::kCancelRequested:
      return "CancelRequested";
    case V::kDeadlineReached:
      return "DeadlineReached";
    case V::kAllStepsEnded:
      return "AllStepsEnded";
    case V::kPauseRequested:
      return "PauseRequested";
    case V::kResumeRequested:
      return "ResumeRequested";
    case V::kRetried:
      return "Retried";
  }
  return "?";
}

std::string TransitionsAsMarkdown() {
  std::string out = "### Run\n\n| From | Event | Guard | To | Actions |\n|---|---|---|---|---|\n";
  for (const RunTransition& t : kRuns) {
    absl::StrAppend(&out, "| ", Name(t.from), " | `", Name(t.event), "` | ", t.guard, " | ", Name(t.to), " | ",
                    t.actions, " |\n");
  }
  absl::StrAppend(&out, "\n### Step\n\n| From | Event | Guard | To | Actions |\n|---|---|---|---|---|\n");
  for (const StepTransition& t : kSteps) {
    absl::StrAppend(&out, "| ", Name(t.from), " | `", Name(t.event), "` | ", t.guard, " | ", Name(t.to), " | ",
                    t.actions, " |\n");
  }
  return out;
}

}  // namespace orch
