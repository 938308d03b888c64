#include "server/engine/worker_pool.h"

#include <utility>

namespace orch {

WorkerPool::WorkerPool(int threads) : at_once_(threads) {
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
  MutexLock lock(&mutex_);
  while (running_ > 0) left_.Wait(&mutex_);
}

bool WorkerPool::TryHere(absl::FunctionRef<void()> work) {
  {
    MutexLock lock(&mutex_);
    if (stopping_ || running_ > 0 || !queue_.empty()) return false;
    ++running_;
  }
  work();
  MutexLock lock(&mutex_);
  --running_;
  left_.NotifyAll();
  if (!queue_.empty()) filled_.NotifyOne();
  return true;
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
      while (queue_.empty() ? !stopping_ : running_ >= at_once_) filled_.Wait(&mutex_);
      if (queue_.empty()) return;
      work = queue_.Pop();
      ++running_;
    }
    work();
    MutexLock lock(&mutex_);
    --running_;
  }
}

SlowPool::~SlowPool() { Stop(); }

void SlowPool::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    waiting_.clear();
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void SlowPool::Add(std::chrono::milliseconds pause, std::function<void()> work) {
  MutexLock lock(&mutex_);
  if (stopping_) return;
  waiting_.emplace(std::chrono::steady_clock::now() + pause, std::move(work));
  if (waiting_.size() > idle_ && threads_.size() < most_) {
    ++idle_;
    threads_.emplace_back([this] { Run(); });
  }
  changed_.NotifyOne();
}

void SlowPool::Run() {
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(&mutex_);
      while (!stopping_) {
        if (waiting_.empty()) {
          changed_.Wait(&mutex_);
          continue;
        }
        const auto left = waiting_.begin()->first - std::chrono::steady_clock::now();
        if (left.count() <= 0) break;
        changed_.WaitFor(&mutex_, std::chrono::ceil<std::chrono::microseconds>(left));
      }
      if (stopping_) return;
      work = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      --idle_;
      if (!waiting_.empty()) changed_.NotifyOne();  // somebody else has to look at the next one's time
    }
    work();
    MutexLock lock(&mutex_);
    ++idle_;
  }
}

}  // namespace orch
