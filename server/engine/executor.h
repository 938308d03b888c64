// Where the outbox's work runs: a few threads in the daemon, a line of pending work in the simulation.
#pragma once

#include <cstdint>
#include <functional>

namespace orch {

class Executor {
 public:
  virtual ~Executor() = default;
  // One after the other: what talks to platforms. In the order of the calls within a lane, which is a run; lanes take
  // turns. Any thread; returns at once.
  virtual void InOrder(int64_t lane, std::function<void()> work) = 0;
  // In any order, several at a time: what may block. Any thread; returns at once.
  virtual void Aside(int64_t lane, std::function<void()> work) = 0;
  // Takes no more and waits for what is queued.
  virtual void Stop() = 0;
};

}  // namespace orch
