// The loop: drain, apply, commit, and only then publish, answer and act.
#include <malloc.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

// At most this many posts in one transaction, so that none does more than about 10 ms of work.
constexpr size_t kPostsPerBatch = 512;
constexpr int64_t kLargeRun = 5'000;   // steps
constexpr size_t kSlicesPerBatch = 4;  // of 256 KiB
constexpr int64_t kStatsEveryMicros = 200'000;

template <typename T>
void Append(std::vector<T>* to, std::vector<T>* from) {
  if (to->empty()) {
    to->swap(*from);
  } else {
    to->insert(to->end(), std::make_move_iterator(from->begin()), std::make_move_iterator(from->end()));
  }
  from->clear();
}

void Merge(Batch* to, Batch* from) {
  Append(&to->spec_slices, &from->spec_slices);
  Append(&to->pipelines, &from->pipelines);
  Append(&to->new_runs, &from->new_runs);
  Append(&to->runs, &from->runs);
  Append(&to->steps, &from->steps);
  Append(&to->attempts, &from->attempts);
  Append(&to->blobs, &from->blobs);
  Append(&to->artifacts, &from->artifacts);
  Append(&to->cache_entries, &from->cache_entries);
  Append(&to->events, &from->events);
  Append(&to->requests, &from->requests);
  Append(&to->orchestrators, &from->orchestrators);
  Append(&to->deleted_orchestrators, &from->deleted_orchestrators);
  Append(&to->pools, &from->pools);
  Append(&to->deleted_pools, &from->deleted_pools);
  Append(&to->stacks, &from->stacks);
}

}  // namespace

void EngineImpl::Loop() {
  const Clock& clock = Clock::Real();
  int64_t stats_due = 0;
  for (;;) {
    int64_t deadline = std::min(core_->NextDeadline(), commit_due_);
    if (stats_stale_) deadline = std::min(deadline, stats_due);
    std::deque<Post> posts = mailbox_.Drain(clock, deadline, kPostsPerBatch);
    const Now now = clock.Now();
    if (posts.empty() && mailbox_.closed() && stopping_) {
      Commit();
      break;
    }
    for (Post& post : posts) {
      ApplyPost(post, &pending_);
      if (pending_.spec_slices.size() >= kSlicesPerBatch) Commit();
    }
    core_->Tick(now);
    effects_->Start(core_->TakeAtOnce());
    if (core_->Urgent() || now.mono >= commit_due_ || core_->NextDeadline() == 0) commit_now_ = true;
    apply_micros_ += clock.Now().mono - now.mono;
    if (commit_now_) Commit();
    stats_stale_ = stats_stale_ || !posts.empty() || core_->NextDeadline() == 0;
    if (stats_stale_ && now.mono >= stats_due) {
      Publish();
      stats_stale_ = false;
      stats_due = now.mono + kStatsEveryMicros;
    }
    if (mailbox_.depth() == 0 && commit_due_ == INT64_MAX) writer_->MaybeCheckpoint();
  }
  Publish();
}

void EngineImpl::ApplyPost(Post& post, Batch* rows) {
  const Now now = Clock::Real().Now();
  Waiting waiting;
  if (post.event.has_value()) {
    ++events_applied_;
    const bool submitted = std::holds_alternative<RunSubmitted>(*post.event);
    const bool published = std::holds_alternative<ArtifactPublished>(*post.event);
    // An end that only hands the outputs to the store need not be on the disk before they are.
    const bool ended = std::holds_alternative<AttemptEnded>(*post.event);
    const int64_t open_before = core_->live_attempts();
    waiting.status = core_->Apply(*std::move(post.event), now);
    if (submitted) {
      waiting.number = core_->last_run_key();
      post.run->header.key = waiting.number;
      effects_->AddRun(std::move(post.run));
    }
    if (published) waiting.number = core_->last_artifact_id();
    if (ended && core_->live_attempts() != open_before) post.lazy = false;
  }
  if (post.rows != nullptr && waiting.status.ok()) Merge(rows, post.rows.get());
  if (post.lazy) {
    commit_due_ = std::min(commit_due_, now.mono + kLazyMicros);
  } else {
    commit_now_ = true;
  }
  if (post.receipt != nullptr) {
    waiting.receipt = std::move(post.receipt);
    waiting_.push_back(std::move(waiting));
  }
}

void EngineImpl::Commit() {
  commit_now_ = false;
  commit_due_ = INT64_MAX;
  Decisions decisions = core_->Take();
  Merge(&pending_, &decisions.batch);
  if (!pending_.empty()) {
    const int64_t before = Clock::Real().Now().mono;
    const absl::Status status = writer_->Commit(&pending_);
    commit_micros_ += Clock::Real().Now().mono - before;
    ++batches_;
    if (!status.ok()) {
      // Memory is ahead of the disk now, which is never repaired: the next start reads the disk.
      Log(LogLevel::kError, "commit failed; the daemon ends here and loses nothing that it acknowledged",
          {{"why", status.ToString()}});
      _exit(70);
    }
    inputs_->Note(pending_.artifacts);
    hub_->Publish(pending_.events);
  }
  effects_->Start(std::move(decisions.intents));
  for (const RunRow& run : pending_.runs) {
    if (!IsTerminal(run.state)) continue;
    effects_->RemoveRun(run.key);
    int64_t steps = 0;
    for (const int64_t count : run.counts) steps += count;
    // Give a large run's memory back to the machine.
    if (steps >= kLargeRun) effects_->Later([] { malloc_trim(0); });
  }
  pending_ = Batch();
  for (Waiting& w : waiting_) w.receipt->Complete(std::move(w.status), w.number);
  waiting_.clear();
}

void EngineImpl::Publish() {
  const store::Writer::Stats store = writer_->stats();
  MutexLock lock(&mutex_);
  stats_.live_runs = static_cast<int64_t>(core_->live_runs());
  stats_.live_attempts = core_->live_attempts();
  stats_.ready_steps = static_cast<int64_t>(core_->ready_steps());
  stats_.late_events = core_->late_events();
  stats_.events_applied = events_applied_;
  stats_.batches = batches_;
  stats_.apply_micros_total = apply_micros_;
  stats_.commit_micros_total = commit_micros_;
  stats_.syncs = store.syncs;
  stats_.wal_bytes = store.wal_bytes;
  pool_use_ = core_->PoolUse();
}

}  // namespace orch
