// The one thread on which a backend speaks to its platform: it does what others hand to it, in their order, and in
// between waits for what the platform says.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "server/base/mutex.h"

namespace orch {

// `Hands` has Connect(Listener*), Poll, which waits and works off what has come, both for the thread alone, and Wake,
// which ends a Poll, for any thread.
template <typename Hands, typename Listener>
class PlatformThread {
 public:
  // `hands` outlives it.
  explicit PlatformThread(Hands* hands) : hands_(*hands) {}
  ~PlatformThread() { Stop(); }

  void Start(Listener* listener) {
    thread_ = std::thread([this, listener] { Run(listener); });
  }
  // What has not been begun is dropped. A second call does nothing.
  void Stop() {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    hands_.Wake();
    thread_.join();
  }
  // Any thread; returns at once.
  void Post(std::function<void()> task) {
    {
      MutexLock lock(&mutex_);
      tasks_.push_back(std::move(task));
    }
    hands_.Wake();
  }

 private:
  void Run(Listener* listener) {
    hands_.Connect(listener);
    while (true) {
      std::deque<std::function<void()>> tasks;
      {
        MutexLock lock(&mutex_);
        if (stopping_) return;
        tasks.swap(tasks_);
      }
      for (const auto& task : tasks) task();
      hands_.Poll();
    }
  }

  Hands& hands_;
  std::thread thread_;
  Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace orch
