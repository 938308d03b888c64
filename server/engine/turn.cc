#include "server/engine/turn.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "server/base/fault.h"
#include "server/base/planted.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr size_t kSlicesPerBatch = 4;  // of 256 KiB
constexpr int64_t kPatienceMicros = 2'000;
constexpr int kMostAlone = 256;

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
  Append(&to->retried_runs, &from->retried_runs);
  Append(&to->runs, &from->runs);
  Append(&to->steps, &from->steps);
  Append(&to->numberings, &from->numberings);
  Append(&to->fanouts, &from->fanouts);
  Append(&to->attempts, &from->attempts);
  Append(&to->blobs, &from->blobs);
  Append(&to->artifacts, &from->artifacts);
  Append(&to->cache_entries, &from->cache_entries);
  Append(&to->cache_misses, &from->cache_misses);
  Append(&to->removed_cache_entries, &from->removed_cache_entries);
  Append(&to->hooks, &from->hooks);
  Append(&to->events, &from->events);
  Append(&to->requests, &from->requests);
  Append(&to->orchestrators, &from->orchestrators);
  Append(&to->deleted_orchestrators, &from->deleted_orchestrators);
  Append(&to->flavors, &from->flavors);
  Append(&to->deleted_flavors, &from->deleted_flavors);
  Append(&to->pools, &from->pools);
  Append(&to->deleted_pools, &from->deleted_pools);
  Append(&to->secrets, &from->secrets);
  Append(&to->deleted_secrets, &from->deleted_secrets);
  Append(&to->api_tokens, &from->api_tokens);
  Append(&to->token_uses, &from->token_uses);
  Append(&to->stacks, &from->stacks);
  Append(&to->deleted_stacks, &from->deleted_stacks);
  Append(&to->artifact_stores, &from->artifact_stores);
  Append(&to->deleted_artifact_stores, &from->deleted_artifact_stores);
  Removals* removals = &to->removals;
  Append(&removals->runs, &from->removals.runs);
  Append(&removals->steps, &from->removals.steps);
  Append(&removals->events, &from->removals.events);
  Append(&removals->artifacts, &from->removals.artifacts);
  Append(&removals->cache_entries, &from->removals.cache_entries);
  Append(&removals->pruned_artifacts, &from->removals.pruned_artifacts);
  if (from->removals.compacted.up_to > removals->compacted.up_to) removals->compacted = from->removals.compacted;
  Append(&removals->checked_blobs, &from->removals.checked_blobs);
  Append(&removals->removed_blobs, &from->removals.removed_blobs);
  if (from->removals.requests.before > removals->requests.before) removals->requests = from->removals.requests;
  Append(&removals->cleaned_runs, &from->removals.cleaned_runs);
}

}  // namespace

absl::Status Turn::Play(std::deque<Post> posts, Now now) {
  for (Post& post : posts) {
    Apply(post);
    if (pending_.spec_slices.size() >= kSlicesPerBatch) RETURN_IF_ERROR(Commit());
  }
  core_->Tick(now);
  sink_->Start(core_->TakeAtOnce());
  const Dispatcher::Urgency urgency = core_->urgency();
  if (urgency == Dispatcher::Urgency::kNow || now.mono >= commit_due_ || core_->NextDeadline() == 0) commit_now_ = true;
  if (!commit_now_ && (ends_ > 0 || urgency == Dispatcher::Urgency::kPatient)) WaitForCompany(now);
  // What time alone brought about is nobody's post: it waits no longer than a lazy one.
  const bool forget = ORCH_PLANTED("forget_to_commit") || ORCH_PLANTED("hide_ready");
  if (core_->HasDecided() && !forget) commit_due_ = std::min(commit_due_, now.mono + kLazyMicros);
  totals_.apply_micros += clock_->Now().mono - now.mono;
  return commit_now_ ? Commit() : absl::OkStatus();
}

void Turn::Apply(Post& post) {
  if (post.look) return post.look(*core_);
  const Now now = clock_->Now();
  Waiting waiting;
  if (post.event.has_value()) {
    ++totals_.events_applied;
    const bool submitted = std::holds_alternative<RunSubmitted>(*post.event);
    const bool retried = std::holds_alternative<RunRetried>(*post.event);
    const bool published = std::holds_alternative<ArtifactPublished>(*post.event);
    // An end that only hands the outputs to the store need not be on the disk before they are.
    const bool ended = std::holds_alternative<AttemptEnded>(*post.event);
    const bool stored = std::holds_alternative<OutputsStored>(*post.event);
    const int64_t open_before = core_->live_attempts();
    waiting.status = core_->Apply(*std::move(post.event), now);
    if (submitted && waiting.status.ok()) {
      waiting.number = core_->last_run_key();
      post.run->header.key = waiting.number;
      sink_->AddRun(std::move(post.run));
    }
    if (retried && waiting.status.ok()) sink_->AddRun(std::move(post.run));
    if (published) waiting.number = core_->last_artifact_id();
    if (stored || (ended && core_->live_attempts() != open_before)) {
      ++ends_;
      post.lazy = true;  // what follows from it says how long it may wait
    }
  }
  if (post.rows != nullptr && waiting.status.ok()) Merge(&pending_, post.rows.get());
  if (post.lazy) {
    commit_due_ = std::min(commit_due_, now.mono + kLazyMicros);
  } else {
    commit_now_ = true;
  }
  if (post.receipt != nullptr || post.hold != nullptr) {
    waiting.receipt = std::move(post.receipt);
    waiting.hold = std::move(post.hold);
    waiting_.push_back(std::move(waiting));
  }
}

// An end whose platform still has enough to do lets others come along: one sync for all of them. If none came, the next
// ones do not wait, and twice as many each time.
void Turn::WaitForCompany(Now now) {
  if (waits_) return;
  if (alone_left_ > 0) {
    --alone_left_;
    commit_now_ = true;
    return;
  }
  waits_ = true;
  commit_due_ = std::min(commit_due_, now.mono + kPatienceMicros);
}

absl::Status Turn::Commit() {
  if (std::exchange(waits_, false)) {
    if (ends_ > 1) {
      alone_ = 1;
    } else {
      alone_left_ = alone_;
      alone_ = std::min(alone_ * 2, kMostAlone);
    }
  }
  ends_ = 0;
  commit_now_ = false;
  commit_due_ = INT64_MAX;
  Decisions decisions = core_->Take();
  Merge(&pending_, &decisions.batch);
  if (!pending_.empty()) {
    const int64_t before = clock_->Now().mono;
    ORCH_FAULT("commit.before");
    if (ORCH_PLANTED("publish_before_commit")) sink_->Publish(pending_);
    for (Waiting& w : waiting_) {
      if (ORCH_PLANTED("answer_before_commit") && w.receipt != nullptr) w.receipt->Complete(w.status, w.number);
    }
    if (ORCH_PLANTED("skip_commit") && totals_.batches % 16 == 15) pending_.attempts.clear();
    if (ORCH_PLANTED("forget_request")) pending_.requests.clear();
    RETURN_IF_ERROR(writer_->Commit(&pending_));
    ORCH_FAULT("commit.after");
    totals_.commit_micros += clock_->Now().mono - before;
    ++totals_.batches;
    if (!ORCH_PLANTED("publish_before_commit")) sink_->Publish(pending_);
    ORCH_FAULT("commit.published");
  }
  for (Waiting& w : waiting_) {
    w.hold = nullptr;
    if (w.receipt != nullptr) w.receipt->Complete(std::move(w.status), w.number);
  }
  waiting_.clear();
  ORCH_FAULT("commit.answered");
  for (auto& [run, graph] : decisions.graphs) sink_->ReplaceGraph(run, std::move(graph));
  sink_->Start(std::move(decisions.intents));
  for (const RunRow& run : pending_.runs) {
    if (IsTerminal(run.state)) sink_->RemoveRun(run);
  }
  pending_ = Batch();
  ORCH_FAULT("commit.effects");
  return absl::OkStatus();
}

}  // namespace orch
