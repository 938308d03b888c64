// What launchers in the tasks of whole runs are told.
#pragma once

#include <cstdint>
#include <string>

#include "server/model/rows.h"
#include "server/model/states.h"

namespace orch {

// Whose task of a whole run a launcher is in: see backends/api/run_outline.h.
struct TaskIdentity {
  RunKey run = 0;
  StepIx ix = 0;
};
// What such a launcher is to do.
struct NextAttempt {
  enum class What : uint8_t {
    kWait = 1,     // ask again
    kAttempt = 2,  // begin this one
    kOver = 3,     // nothing: the step has ended
  };
  What what = What::kWait;
  std::string key;  // kAttempt
  std::string token;
  uint32_t attempt = 0;
  StepState state = StepState::kWaiting;  // kOver
  Reason reason = Reason::kNone;
  std::string message;
};
enum class StopAsked : uint8_t { kNo = 0, kGraceful = 1, kForced = 2 };

}  // namespace orch
