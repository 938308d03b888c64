#include "server/rpc/worker_pool.h"

#include <chrono>
#include <system_error>
#include <utility>

#include "server/base/clock.h"
#include "server/base/log.h"

namespace orch::rpc {

// One of each from the start: later there may be no more to be had.
WorkerPool::WorkerPool(int max_threads) : max_threads_(max_threads) {
  MutexLock lock(&mutex_);
  threads_.emplace_back([this] { RunTimers(); });
  threads_.emplace_back([this] { Run(); });
}

WorkerPool::~WorkerPool() { Stop(); }

void WorkerPool::Post(std::function<void()> work) {
  MutexLock lock(&mutex_);
  PostLocked(std::move(work));
}

void WorkerPool::PostLocked(std::function<void()> work) {
  if (stopped_) return;
  queue_.push_back(std::move(work));
  const int workers = static_cast<int>(threads_.size()) - 1;
  if (static_cast<int>(queue_.size()) > idle_ && workers < max_threads_) {
    try {
      threads_.emplace_back([this] { Run(); });
    } catch (const std::system_error& e) {  // a limit on processes: those that there are do it, later
      if (!short_of_threads_) Log(LogLevel::kWarning, "no thread to be had; calls wait for one", {{"why", e.what()}});
      short_of_threads_ = true;
    }
  }
  work_.NotifyOne();
}

void WorkerPool::PostAfter(int64_t micros, std::function<void()> work) {
  MutexLock lock(&mutex_);
  if (stopped_) return;
  const auto added = timers_.emplace(Clock::Real().Now().mono + micros, std::move(work));
  if (added == timers_.begin()) timer_.NotifyOne();
}

void WorkerPool::Run() {
  mutex_.Lock();
  while (true) {
    while (queue_.empty() && !stopped_) {
      ++idle_;
      work_.Wait(&mutex_);
      --idle_;
    }
    if (stopped_) break;
    {
      std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
      mutex_.Unlock();
      work();
    }
    mutex_.Lock();
    --running_;
    if (running_ == 0 && queue_.empty()) drained_.NotifyAll();
  }
  mutex_.Unlock();
}

void WorkerPool::RunTimers() {
  mutex_.Lock();
  while (!stopped_) {
    if (timers_.empty()) {
      timer_.Wait(&mutex_);
      continue;
    }
    const int64_t wait = timers_.begin()->first - Clock::Real().Now().mono;
    if (wait > 0) {
      timer_.WaitFor(&mutex_, std::chrono::microseconds(wait));
      continue;
    }
    PostLocked(std::move(timers_.begin()->second));
    timers_.erase(timers_.begin());
  }
  mutex_.Unlock();
}

void WorkerPool::Drain() {
  MutexLock lock(&mutex_);
  while (!stopped_ && (running_ > 0 || !queue_.empty())) drained_.Wait(&mutex_);
}

void WorkerPool::Stop() {
  std::vector<std::thread> threads;
  std::deque<std::function<void()>> dropped;
  std::multimap<int64_t, std::function<void()>> dropped_timers;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    threads.swap(threads_);
    dropped.swap(queue_);
    dropped_timers.swap(timers_);
    work_.NotifyAll();
    timer_.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace orch::rpc
