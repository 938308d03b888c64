// The one thread on which a backend speaks to its platform: it does what others hand to it, in their order, and in
// between waits for what the platform says.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "server/base/mutex.h"

namespace orch {

// Asks that on a thread that does what is posted to it, behind what was, again and again until it is so; false: it was
// not in that time.
inline bool WaitUntilOn(const std::function<void(std::function<void()>)>& post, const std::function<bool()>& is_so,
                        std::chrono::milliseconds limit) {
  struct Answer {
    Mutex mutex;
    CondVar changed;
    std::optional<bool> said ABSL_GUARDED_BY(mutex);
  };
  using std::chrono::microseconds;
  using std::chrono::steady_clock;
  constexpr microseconds kPause(20'000);
  const auto until = steady_clock::now() + limit;
  const auto left = [until] { return std::chrono::duration_cast<microseconds>(until - steady_clock::now()); };
  for (;;) {
    const auto answer = std::make_shared<Answer>();
    post([answer, is_so] {
      const bool said = is_so();
      MutexLock lock(&answer->mutex);
      answer->said = said;
      answer->changed.NotifyAll();
    });
    MutexLock lock(&answer->mutex);
    while (!answer->said.has_value()) {
      if (left().count() <= 0) return false;
      answer->changed.WaitFor(&answer->mutex, left());
    }
    if (*answer->said) return true;
    if (left().count() <= 0) return false;
    answer->changed.WaitFor(&answer->mutex, std::min(kPause, left()));  // nobody wakes it: a pause
  }
}

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
  // As WaitUntilOn. Any other thread.
  bool WaitUntil(const std::function<bool()>& is_so, std::chrono::milliseconds limit) {
    return WaitUntilOn([this](std::function<void()> task) { Post(std::move(task)); }, is_so, limit);
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
