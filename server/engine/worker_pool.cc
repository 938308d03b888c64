#include "server/engine/worker_pool.h"

#include <utility>

namespace orch {

WorkerPool::WorkerPool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkerPool::~WorkerPool() { Stop(); }

void WorkerPool::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    filled_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void WorkerPool::Add(int64_t lane, std::function<void()> work) {
  MutexLock lock(&mutex_);
  if (stopping_) return;
  queue_.Push(lane, std::move(work));
  filled_.NotifyOne();
}

void WorkerPool::Run() {
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) filled_.Wait(&mutex_);
      if (queue_.empty()) return;
      work = queue_.Pop();
    }
    work();
  }
}

}  // namespace orch
