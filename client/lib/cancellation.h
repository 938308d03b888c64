// A wish to stop, shared between the thread that waits and the one that no longer wants to.
#pragma once

#include <chrono>
#include <functional>

#include "server/base/mutex.h"

namespace orch::client {

// Any thread. Once cancelled it stays so.
class Cancellation {
 public:
  Cancellation() = default;
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  // Runs the hook, if one is set, and wakes sleepers.
  void Cancel();
  bool cancelled() const;

  // Sleeps; false if cancelled before the time was over.
  bool Sleep(std::chrono::microseconds time);

  // `hook` is run by Cancel(), on its thread, under the lock: it must only ask something to stop. An empty one clears.
  // If already cancelled it is run at once.
  void SetHook(std::function<void()> hook);

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> hook_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::client
