// A few threads and a queue, for work that may block.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "server/base/mutex.h"

namespace orch {

class WorkerPool {
 public:
  explicit WorkerPool(int threads);
  // Finishes what is queued.
  ~WorkerPool();
  // Any thread.
  void Add(std::function<void()> work);
  // Takes no more and waits for what is queued.
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar filled_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace orch
