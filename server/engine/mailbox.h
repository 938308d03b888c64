// The only way into the loop: a bounded queue of events and of rows to commit, filled by any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/core/messages.h"
#include "server/engine/fair_queue.h"

namespace orch {

// Lets a handler wait for the commit of what it posted.
class Receipt {
 public:
  void Complete(absl::Status status, int64_t number);
  // DEADLINE_EXCEEDED (COMMIT_SLOW): it may still happen.
  absl::Status Wait(int64_t deadline_micros);
  // What the loop made: an artifact's id.
  int64_t number() const { return number_; }

 private:
  Mutex mutex_;
  CondVar done_cv_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int64_t number_ = 0;
};

struct RunContext;
class Dispatcher;

struct Post {
  std::optional<Event> event;
  std::unique_ptr<Batch> rows;  // committed with the event
  // With RunSubmitted: what the effects need of it; the loop fills in the key.
  std::shared_ptr<RunContext> run;
  std::shared_ptr<Receipt> receipt;  // null: nobody waits
  // Instead of all else: a quick look at the core, on the loop's thread. It changes nothing and commits nothing.
  std::function<void(const Dispatcher&)> look;
  // Let go of after the commit, whoever has stopped waiting: a name or a run that nobody else may use meanwhile.
  std::shared_ptr<const void> hold;
  // The run that a report is about; reports of a run keep their order, and runs take turns. Calls have a lane of their
  // own.
  int64_t lane = 0;
  // Need not be committed by itself: it joins the next commit, or waits at most kLazyMicros.
  bool lazy = false;
};

inline constexpr int64_t kLazyMicros = 20'000;

class Mailbox {
 public:
  explicit Mailbox(size_t bound) : bound_(bound) {}

  // From clients: RESOURCE_EXHAUSTED (BUSY) when too many calls wait, UNAVAILABLE (STOPPING) after Close.
  absl::Status Offer(Post post);
  // From the daemon's own effects: always has room.
  void Put(Post post);
  // For who makes reports as fast as it can: waits while `posts` or more are there, but no longer than a second. Not on
  // the loop's thread.
  void WaitForRoom(size_t posts);
  void Close();

  // In turns between lanes. Waits until there is something, or `deadline_mono` has come (0: at once), and takes at most
  // `limit`.
  std::deque<Post> Drain(const Clock& clock, int64_t deadline_mono, size_t limit);
  size_t depth() const { return depth_.load(std::memory_order_relaxed); }
  bool closed() const;

 private:
  bool Add(int64_t lane, Post post) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t bound_;
  mutable Mutex mutex_;
  CondVar filled_;
  CondVar drained_;
  FairQueue<Post> posts_ ABSL_GUARDED_BY(mutex_);
  size_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<size_t> depth_{0};
};

}  // namespace orch
