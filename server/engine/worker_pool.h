// A few threads and a queue, for work that may block.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
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
  // Does it now, on the caller's thread, if nothing is waiting or under way; false: it was not done. Nothing else of a
  // pool of one thread runs meanwhile.
  bool TryHere(absl::FunctionRef<void()> work);
  // Takes no more and waits for what is queued or under way.
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar filled_;
  FairQueue<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  const int at_once_;
  CondVar left_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// One thread for what has an order, two for what may block.
class ThreadExecutor : public Executor {
 public:
  void InOrder(int64_t lane, std::function<void()> work) override { one_.Add(lane, std::move(work)); }
  bool Here(absl::FunctionRef<void()> work) override { return one_.TryHere(work); }
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
