// A few threads and a queue, for work that may block.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/engine/executor.h"
#include "server/engine/fair_queue.h"

namespace orch {

class WorkerPool {
 public:
  explicit WorkerPool(int threads);
  // Finishes what is queued.
  ~WorkerPool();
  // Any thread. Lanes, such as runs, take turns; within one the order is kept if there is one thread.
  void Add(int64_t lane, std::function<void()> work);
  // Takes no more and waits for what is queued.
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar filled_;
  FairQueue<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// One thread for what has an order, two for what may block.
class ThreadExecutor : public Executor {
 public:
  void InOrder(int64_t lane, std::function<void()> work) override { one_.Add(lane, std::move(work)); }
  void Aside(int64_t lane, std::function<void()> work) override { two_.Add(lane, std::move(work)); }
  void Stop() override {
    one_.Stop();
    two_.Stop();
  }

 private:
  WorkerPool one_{1};
  WorkerPool two_{2};
};

}  // namespace orch
