// The loop: one thread that gives posts and time to the turn, and what the turn decided to the world.
#include <unistd.h>

#include <utility>

#include "server/base/heap.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

// At most this many posts in one transaction, so that none does more than about 10 ms of work.
constexpr size_t kPostsPerBatch = 512;
constexpr int64_t kLargeRun = 5'000;  // steps
constexpr int64_t kStatsEveryMicros = 200'000;

}  // namespace

void EngineImpl::Loop() {
  const Clock& clock = Clock::Real();
  int64_t stats_due = 0;
  const auto checked = [](const absl::Status& status) {
    if (status.ok()) return;
    // Memory is ahead of the disk now, which is never repaired: the next start reads the disk.
    Log(LogLevel::kError, "commit failed; the daemon ends here and loses nothing that it acknowledged",
        {{"why", status.ToString()}});
    _exit(70);
  };
  for (;;) {
    int64_t deadline = turn_->NextDeadline();
    if (stats_stale_) deadline = std::min(deadline, stats_due);
    std::deque<Post> posts = mailbox_.Drain(clock, deadline, kPostsPerBatch);
    const Now now = clock.Now();
    const bool any = !posts.empty();
    if (!any && mailbox_.closed() && stopping_) {
      checked(turn_->Commit());
      break;
    }
    checked(turn_->Play(std::move(posts), now));
    stats_stale_ = stats_stale_ || any || core_->NextDeadline() == 0;
    if (stats_stale_ && now.mono >= stats_due) {
      PublishStats();
      stats_stale_ = false;
      stats_due = now.mono + kStatsEveryMicros;
    }
    writer_->MaybeCheckpoint(mailbox_.depth() == 0 && turn_->idle());
  }
  PublishStats();
}

void EngineImpl::AddRun(std::shared_ptr<const RunContext> run) { outbox_->AddRun(std::move(run)); }

void EngineImpl::Publish(const Batch& committed) {
  inputs_->Note(committed.artifacts);
  cache_->SetVersion(core_->cache_version());
  hub_->Publish(committed.events);
  ++commits_;
}

void EngineImpl::Start(std::vector<Intent> intents) { outbox_->Start(std::move(intents)); }

void EngineImpl::ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) {
  outbox_->ReplaceGraph(run, std::move(graph));
}

void EngineImpl::RemoveRun(const RunRow& run) {
  outbox_->RemoveRun(run.key);
  int64_t steps = 0;
  for (const int64_t count : run.counts) steps += count;
  // Give a large run's memory back to the machine.
  if (steps >= kLargeRun) outbox_->Later([] { GiveHeapBack(); });
}

void EngineImpl::PublishStats() {
  const store::Writer::Stats store = writer_->stats();
  const Turn::Totals& totals = turn_->totals();
  MutexLock lock(&mutex_);
  stats_.live_runs = static_cast<int64_t>(core_->live_runs());
  stats_.live_attempts = core_->live_attempts();
  stats_.ready_steps = static_cast<int64_t>(core_->ready_steps());
  stats_.late_events = core_->late_events();
  stats_.events_applied = totals.events_applied;
  stats_.batches = totals.batches;
  stats_.apply_micros_total = totals.apply_micros;
  stats_.commit_micros_total = totals.commit_micros;
  stats_.syncs = store.syncs;
  stats_.wal_bytes = store.wal_bytes;
  pool_use_ = core_->PoolUse();
}

}  // namespace orch
