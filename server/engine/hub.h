// Hub gives committed events to watchers. It never waits for a watcher: a slow one falls out of the ring and reads the
// event table instead, so the memory for it is one page.
//
// Any thread. gRPC-free.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/model/rows.h"

namespace orch {

class Hub {
 public:
  Hub(int64_t last_sequence, size_t ring_capacity);

  // After the commit, in the order of sequences, from the loop's thread.
  void Publish(const std::vector<EventRow>& events);

  struct Page {
    std::vector<std::shared_ptr<const EventRow>> events;  // matching ones, oldest first
    int64_t after = 0;                                    // everything up to here has been looked at
    bool behind = false;  // the ring does not reach back that far: read the event table from the same place
  };
  // Events of `run` (0: all) with sequences above `after`.
  Page Read(RunKey run, int64_t after, int limit) const;

  // kRunsOnly: events of the run itself, none of its steps. Who waits for the end of a run is not woken by each step.
  enum class Scope : uint8_t { kEverything, kRunsOnly };
  // Calls `wake` once, from another thread or at once, when there is an event of `run` (0: any) and `scope` above
  // `after`, or the ring does not reach back that far, and at Close. Returns a number for Forget. `wake` must return at
  // once and must not call the hub.
  uint64_t WakeAfter(RunKey run, int64_t after, std::function<void()> wake, Scope scope = Scope::kEverything);
  // After it has returned `wake` is not called any more.
  void Forget(uint64_t id);

  int64_t last_sequence() const;
  // The daemon stops: wakes everybody; closed() is true from now on.
  void Close();
  bool closed() const;

 private:
  struct Waiter {
    RunKey run;
    Scope scope;
    std::function<void()> wake;
  };
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const EventRow>> ring_ ABSL_GUARDED_BY(mutex_);
  const size_t capacity_;
  int64_t first_ ABSL_GUARDED_BY(mutex_);  // oldest sequence in the ring
  int64_t last_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<RunKey, std::vector<uint64_t>> by_run_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace orch
