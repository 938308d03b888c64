#include "backends/plugin/call_loop.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <utility>

#include "server/base/clock.h"

namespace orch::plugin {
namespace {
constexpr int64_t kLongest = 60'000'000;
int64_t Mono() { return Clock::Real().Now().mono; }
}  // namespace

void CallLoop::Bell::Proceed(bool) {
  MutexLock lock(&loop_->mutex_);
  loop_->ringing_ = false;
}

void CallLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void CallLoop::Stop(Task last) {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mutex_);
    if (last) tasks_.push_back(std::move(last));
    stopping_ = true;
    Wake();
  }
  thread_.join();
}

void CallLoop::Wake() {
  if (std::exchange(ringing_, true)) return;
  alarm_.Set(&queue_, gpr_now(GPR_CLOCK_MONOTONIC), static_cast<Tag*>(&bell_));
}

void CallLoop::Post(Task task) {
  MutexLock lock(&mutex_);
  if (stopping_) return;
  tasks_.push_back(std::move(task));
  Wake();
}

void CallLoop::After(int64_t micros, Task task) { timers_.emplace(Mono() + micros, std::move(task)); }

void CallLoop::Run() {
  bool leaving = false;
  while (true) {
    std::deque<Task> tasks;
    {
      MutexLock lock(&mutex_);
      tasks.swap(tasks_);
      leaving = leaving || (stopping_ && tasks.empty());
    }
    for (const Task& task : tasks) task();
    if (leaving && under_way_ == 0) break;
    const int64_t now = Mono();
    int64_t wait = kLongest;
    if (!timers_.empty()) {
      if (timers_.begin()->first <= now) {
        const Task due = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
        due();
        continue;
      }
      wait = std::min(wait, timers_.begin()->first - now);
    }
    if (!tasks.empty()) wait = 0;  // they may have posted more
    void* tag = nullptr;
    bool ok = false;
    const gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(wait, GPR_TIMESPAN));
    if (queue_.AsyncNext(&tag, &ok, until) == grpc::CompletionQueue::GOT_EVENT) static_cast<Tag*>(tag)->Proceed(ok);
  }
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) static_cast<Tag*>(tag)->Proceed(ok);
}

}  // namespace orch::plugin
