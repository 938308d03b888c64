// A few threads for work that must not run where it was asked for (gRPC's callback threads, the HTTP loop), and timers.
//
// Threads start when there is work for them. Any thread may post; work posted after Stop is dropped.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "server/base/mutex.h"

namespace orch::rpc {

class WorkerPool {
 public:
  explicit WorkerPool(int max_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Post(std::function<void()> work);
  void PostAfter(int64_t micros, std::function<void()> work);
  // Waits until nothing is queued or runs. Not from a thread of the pool.
  void Drain();
  // Drops what is queued, waits for what runs. Not from a thread of the pool.
  void Stop();

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void RunTimers() ABSL_LOCKS_EXCLUDED(mutex_);
  void PostLocked(std::function<void()> work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int max_threads_;
  Mutex mutex_;
  CondVar work_;
  CondVar timer_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::multimap<int64_t, std::function<void()>> timers_ ABSL_GUARDED_BY(mutex_);  // by CLOCK_BOOTTIME
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);                      // first the timers'
  CondVar drained_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool short_of_threads_ ABSL_GUARDED_BY(mutex_) = false;  // said once
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace orch::rpc
