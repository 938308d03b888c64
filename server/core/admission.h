// When an orchestrator may be given work: its circuit breaker and its rate. Pure; times are of the monotonic clock, in
// microseconds, unless they are called wall.
#pragma once

#include <cstdint>
#include <string>

#include "server/base/clock.h"

namespace orch {

struct BreakerPolicy {
  int64_t failures = 5;  // in a row, before nothing more is submitted; 0: never
  int64_t first_micros = 1'000'000;
  int64_t max_micros = 60'000'000;
};

// Opens after some submissions in a row that the platform refused for now. Then it is asked how it is, at first after a
// second, then after twice as long each time; when it says that it is well, one submission is let through, and what
// becomes of that decides.
class Breaker {
 public:
  enum class State : uint8_t {
    kClosed,   // all is well
    kOpen,     // nothing is submitted until it has been asked
    kProbing,  // it is being asked
    kTrying,   // one submission at a time
  };

  // A submission was refused for now. True if nothing more may be submitted from now on.
  bool Failed(const BreakerPolicy& policy, Now now, std::string why);
  // The platform has taken one. True if it was not known to be well.
  bool Succeeded(Now now);
  // True once, when it has to be asked.
  bool BeginProbe(int64_t mono);
  // It said how it is. Somebody may also ask before it is due.
  void Probed(const BreakerPolicy& policy, Now now, bool well, std::string why);
  // The one submission of kTrying is under way; or it is over without a word of the platform.
  void TrialBegan() { trial_ = true; }
  void TrialVanished() { trial_ = false; }

  bool MaySubmit() const { return state_ == State::kClosed || (state_ == State::kTrying && !trial_); }
  State state() const { return state_; }
  int64_t probe_due() const { return probe_due_; }  // of kOpen; INT64_MAX otherwise
  int64_t since_wall() const { return since_wall_; }
  int64_t retry_wall() const { return retry_wall_; }  // of kOpen; 0 otherwise
  int64_t failures() const { return failures_; }      // in a row
  const std::string& last_error() const { return last_error_; }

 private:
  void Open(const BreakerPolicy& policy, Now now);

  State state_ = State::kClosed;
  bool trial_ = false;
  int64_t failures_ = 0;
  int64_t wait_ = 0;  // before the next probe
  int64_t probe_due_ = INT64_MAX;
  int64_t since_wall_ = 0;
  int64_t retry_wall_ = 0;
  std::string last_error_;
};

// At most so many a second, evenly; after a pause as many as a second has at once.
class Rate {
 public:
  // In thousandths a second; 0: no limit.
  void Set(int64_t milli);
  int64_t milli() const { return milli_; }
  // How many may go now, at most `most`.
  int64_t Available(int64_t mono, int64_t most) const;
  void Take(int64_t mono);
  // When one may go; `mono` or before: now.
  int64_t NextAt() const { return milli_ == 0 ? 0 : full_at_ - slack_; }

 private:
  int64_t milli_ = 0;
  int64_t interval_ = 0;  // between two
  int64_t slack_ = 0;     // how far ahead of its time one may go
  int64_t full_at_ = 0;   // when all of the slack is back
};

// How an orchestrator is, as far as the dispatcher knows.
struct OrchestratorHealth {
  bool reachable = true;  // as its backend says
  Breaker::State breaker = Breaker::State::kClosed;
  int64_t since_wall = 0;  // of whichever of the two is not well; 0: it has always been
  std::string last_error;
  int64_t failures = 0;    // submissions in a row that it refused
  int64_t retry_wall = 0;  // when it is asked how it is; 0: nobody waits for that
  int64_t running = 0;     // attempts that hold slots
  int64_t held = 0;        // of them, those that wait to be submitted again
};

}  // namespace orch
