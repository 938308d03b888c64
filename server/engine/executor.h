// Where the outbox's work runs: a few threads in the daemon, a line of pending work in the simulation.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "absl/functional/function_ref.h"

namespace orch {

class Executor {
 public:
  virtual ~Executor() = default;
  // One after the other: what talks to platforms. In the order of the calls within a lane; lanes, which are runs, take
  // turns. Any thread; returns at once.
  virtual void InOrder(int64_t lane, std::function<void()> work) = 0;
  // Does it now, on the caller's thread, in the place of InOrder; false, and nothing was done, if anything in order is
  // waiting or under way. It saves the change of threads when there is little to do.
  virtual bool Here(absl::FunctionRef<void()> work) = 0;
  // In any order, several at a time: what may block. Any thread; returns at once.
  virtual void Aside(int64_t lane, std::function<void()> work) = 0;
  // Like Aside, on threads of its own, and not before `pause` has passed: what may take minutes.
  virtual void Slowly(std::chrono::milliseconds pause, std::function<void()> work) = 0;
  // Takes no more and waits for what is queued, and of what is slow for what is under way; the rest of that is dropped.
  virtual void Stop() = 0;
};

}  // namespace orch
