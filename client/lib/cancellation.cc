#include "client/lib/cancellation.h"

#include <utility>

namespace orch::client {

void Cancellation::Cancel() {
  MutexLock lock(&mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  if (hook_) hook_();
  changed_.NotifyAll();
}

bool Cancellation::cancelled() const {
  MutexLock lock(&mutex_);
  return cancelled_;
}

bool Cancellation::Sleep(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  MutexLock lock(&mutex_);
  while (!cancelled_) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return true;
    changed_.WaitFor(&mutex_, left);
  }
  return false;
}

void Cancellation::SetHook(std::function<void()> hook) {
  MutexLock lock(&mutex_);
  hook_ = std::move(hook);
  if (cancelled_ && hook_) hook_();
}

}  // namespace orch::client
