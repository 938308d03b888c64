// A few threads and a queue, for work that may block.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
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

// Threads for work that takes long and has a time before which it does not begin: made as they are needed, so that what
// hangs holds up nothing else before `most` of it do.
class SlowPool {
 public:
  explicit SlowPool(size_t most) : most_(most) {}
  ~SlowPool();
  // Any thread.
  void Add(std::chrono::milliseconds pause, std::function<void()> work);
  // Takes no more, drops what has not begun and waits for what is under way.
  void Stop();

 private:
  void Run();

  const size_t most_;
  Mutex mutex_;
  CondVar changed_;
  std::multimap<std::chrono::steady_clock::time_point, std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // of Add, and once it takes no more of Stop
};

// One thread for what has an order, two for what may block, up to sixteen for what may take minutes.
class ThreadExecutor : public Executor {
 public:
  void InOrder(int64_t lane, std::function<void()> work) override { one_.Add(lane, std::move(work)); }
  bool Here(absl::FunctionRef<void()> work) override { return one_.TryHere(work); }
  void Aside(int64_t lane, std::function<void()> work) override { two_.Add(lane, std::move(work)); }
  void Slowly(std::chrono::milliseconds pause, std::function<void()> work) override {
    slow_.Add(pause, std::move(work));
  }
  void Stop() override {
    one_.Stop();
    two_.Stop();
    slow_.Stop();
  }

 private:
  WorkerPool one_{1};
  WorkerPool two_{2};
  SlowPool slow_{16};
};

}  // namespace orch
