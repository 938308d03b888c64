// The tables of what may become of a run and of a step. The dispatcher moves nothing except through them, the tests
// walk them, and the documentation is printed from them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "server/model/states.h"

namespace orch {

// What happened to a step.
enum class StepEvent : uint8_t {
  kUpstreamsMet,         // no input is open and the trigger rule is met
  kUpstreamsUnmet,       // all upstreams have ended and the trigger rule is not met
  kEarlyProducerFailed,  // the producer of an early input failed for good before this step started
  kRunHalted,            // the run's execution mode or time-out stops everything not started
  kCancelRequested,
  kResolveFailed,  // an input from outside the run is missing
  kCacheHit,
  kWhenFalse,
  kInputOpen,  // an artifact from outside the run has not landed
  kFannedOut,  // of a group: its list has landed, its instances are there
  kSlotGranted,
  kAccepted,       // the platform has it
  kHeldUp,         // … and says why it has not begun
  kRefusedForNow,  // the same attempt is submitted again
  kStarted,
  kCommandEnded,    // exit code 0, outputs have to be stored
  kSucceeded,       // exit code 0 and all outputs have landed
  kFailedForRetry,  // the attempt is over and another is allowed
  kFailedForGood,
  kStopRequested,  // a time-out, the execution mode or a cancel stops a live attempt
  kStopped,        // ... and it has ended
  kRetryDue,
  kSkipRequested,  // by an operator
  kRemoved,        // the run's next generation does not have it
  kReopened,       // a retry of the run begins its next generation
};

struct StepTransition {
  StepState from;
  StepEvent event;
  StepState to;
  const char* guard;
  const char* actions;
};

enum class RunEvent : uint8_t {
  kAdmitted,
  kStepFailed,
  kCancelRequested,
  kDeadlineReached,
  kAllStepsEnded,
  kPauseRequested,
  kResumeRequested,
  kRetried,
};

struct RunTransition {
  RunState from;
  RunEvent event;
  RunState to;
  const char* guard;
  const char* actions;
};

std::span<const StepTransition> StepTransitions();
std::span<const RunTransition> RunTransitions();

// True if the table has (from, event, to).
bool IsAllowed(StepState from, StepEvent event, StepState to);
bool IsAllowed(RunState from, RunEvent event, RunState to);

absl::string_view Name(StepEvent event);
absl::string_view Name(RunEvent event);

// Both tables as Markdown, for docs/architecture.md.
std::string TransitionsAsMarkdown();

}  // namespace orch
