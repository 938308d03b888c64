// One thread on which everything about a plug-in happens: what is posted, what is due, and what gRPC has done.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <thread>

#include "server/base/mutex.h"

namespace orch::plugin {

// What comes out of the completion queue. On the loop's thread.
class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Proceed(bool ok) = 0;
};

class CallLoop {
 public:
  using Task = std::function<void()>;

  CallLoop() = default;
  ~CallLoop() { Stop(); }
  CallLoop(const CallLoop&) = delete;
  CallLoop& operator=(const CallLoop&) = delete;

  void Start();
  // Waits for what is under way: whoever has calls cancels them first, in `last`, on the thread.
  void Stop(Task last = nullptr);

  // Any thread; dropped after Stop.
  void Post(Task task);
  // The loop's thread.
  void After(int64_t micros, Task task);

  grpc::CompletionQueue* queue() { return &queue_; }
  // Calls under way; each begins with one and ends with the other. The loop's thread.
  void Began() { ++under_way_; }
  void Finished() { --under_way_; }

 private:
  // The tag of a wake-up: what there is to do is looked at after every tag.
  class Bell : public Tag {
   public:
    explicit Bell(CallLoop* loop) : loop_(loop) {}
    void Proceed(bool ok) override;

   private:
    CallLoop* const loop_;
  };
  void Run();
  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  grpc::CompletionQueue queue_;
  std::thread thread_;
  Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  Bell bell_{this};
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);  // set again only once it has rung
  bool ringing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Of the thread.
  std::multimap<int64_t, Task> timers_;
  int under_way_ = 0;
};

}  // namespace orch::plugin
