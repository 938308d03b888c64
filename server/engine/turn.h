// One turn of the loop: apply what was posted, let time pass in the core, commit what must not wait, and only then
// publish, answer and act. It knows no thread and no mailbox; the loop (and the simulation) give it posts and time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/core/dispatcher.h"
#include "server/engine/mailbox.h"
#include "server/engine/run_context.h"
#include "server/store/store.h"

namespace orch {

// Who acts on what a turn decided. Calls come on the loop's thread and return at once.
class TurnSink {
 public:
  virtual ~TurnSink() = default;
  // Applied, not committed: only the effects may know of it.
  virtual void AddRun(std::shared_ptr<const RunContext> run) = 0;
  // Durable now: watchers and readers may see it.
  virtual void Publish(const Batch& committed) = 0;
  // Those that follow from what is durable, and those of Dispatcher::TakeAtOnce.
  virtual void Start(std::vector<Intent> intents) = 0;
  // From here on the run's effects work with this graph; before the intents that need it.
  virtual void ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) = 0;
  // A run has ended, durably.
  virtual void RemoveRun(const RunRow& run) = 0;
};

// Thread: the loop's alone.
class Turn {
 public:
  // All of them outlive it.
  Turn(const Clock* clock, Dispatcher* core, store::Writer* writer, TurnSink* sink)
      : clock_(clock), core_(core), writer_(writer), sink_(sink) {}

  // Any error is a commit that failed: memory is ahead of the disk, which is never repaired. The process must end.
  absl::Status Play(std::deque<Post> posts, Now now);
  // Commits what waits, urgent or not. The same errors.
  absl::Status Commit();

  // When Play has something to do without a post; INT64_MAX: never.
  int64_t NextDeadline() const { return std::min(core_->NextDeadline(), commit_due_); }
  // True if nothing waits for a commit.
  bool idle() const { return commit_due_ == INT64_MAX; }

  struct Totals {
    int64_t events_applied = 0;
    int64_t batches = 0;
    int64_t apply_micros = 0;
    int64_t commit_micros = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  // A receipt to complete and what to let go of after the commit.
  struct Waiting {
    std::shared_ptr<Receipt> receipt;
    absl::Status status;
    int64_t number = 0;
    std::shared_ptr<const void> hold;
  };

  void Apply(Post& post);
  void WaitForCompany(Now now);

  const Clock* const clock_;
  Dispatcher* const core_;
  store::Writer* const writer_;
  TurnSink* const sink_;
  Batch pending_;
  std::vector<Waiting> waiting_;
  bool commit_now_ = false;
  int64_t commit_due_ = INT64_MAX;
  int ends_ = 0;        // of attempts, since the last commit
  bool waits_ = false;  // for more of them
  int alone_ = 1;       // how many will not wait once one has waited in vain
  int alone_left_ = 0;
  Totals totals_;
};

}  // namespace orch
