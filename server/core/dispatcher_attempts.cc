// What concerns attempts: starts, reports from platforms, stops, retries, outputs.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/base/status.h"
#include "server/core/dispatcher.h"

namespace orch {
namespace {

// A platform that ignores a stop is asked again, by force.
constexpr int64_t kStopSlackMicros = 5'000'000;
constexpr int64_t kStopAgainMicros = 30'000'000;
constexpr int64_t kResubmitFirstMicros = 500'000;
constexpr int64_t kResubmitMaxMicros = 60'000'000;

bool IsTimeout(Reason reason) {
  return reason == Reason::kRunTimeout || reason == Reason::kQueueTimeout || reason == Reason::kHeartbeatTimeout;
}

AttemptState EndState(const AttemptEnd& end, Reason stop_reason) {
  if (IsTimeout(stop_reason)) return AttemptState::kTimedOut;
  return end.reason == Reason::kLost ? AttemptState::kLost : AttemptState::kFailed;
}

std::string ArtifactNameOf(const RunInMemory& run, StepIx ix, const OutputSpec& spec) {
  return spec.as.empty() ? absl::StrCat(run.header.pipeline, ".", run.graph->StepName(ix), ".", spec.name) : spec.as;
}

}  // namespace

LiveAttempt* Dispatcher::FindLive(const AttemptRef& ref, RunInMemory** run) {
  *run = FindRun(ref.run);
  if (*run != nullptr) {
    const auto live = (*run)->live.find(ref.ix);
    if (live != (*run)->live.end() && live->second.row.number == ref.attempt) return &live->second;
  }
  ++late_events_;
  return nullptr;
}

void Dispatcher::Touch(RunInMemory& run, StepIx ix, LiveAttempt& attempt) {
  if (attempt.dirty) return;
  attempt.dirty = true;
  dirty_attempts_.emplace_back(run.header.key, ix);
}

void Dispatcher::AddIntent(Intent::Kind kind, const RunInMemory& run, StepIx ix, const LiveAttempt& attempt) {
  Intent& intent = out_.intents.emplace_back();
  intent.kind = kind;
  intent.ref = {run.header.key, ix, attempt.row.number};
  intent.key = attempt.row.key;
  intent.orchestrator = attempt.row.orchestrator;
  if (kind != Intent::Kind::kSubmitAttempt && kind != Intent::Kind::kStoreOutputs) return;
  intent.inputs = InputsOf(run, ix);
  intent.cache_key = attempt.row.cache_key;
}

void Dispatcher::SubmitNow(RunInMemory& run, StepIx ix, LiveAttempt& attempt) {
  // On record before it is done: what it reads is what has landed now.
  attempt.row.inputs_upto = next_artifact_id_ - 1;
  Touch(run, ix, attempt);
  AddIntent(Intent::Kind::kSubmitAttempt, run, ix, attempt);
  NoteSubmission(OrchestratorOf(run, ix), {run.header.key, ix, attempt.row.number});
}

std::vector<std::vector<ArtifactId>> Dispatcher::InputsOf(const RunInMemory& run, StepIx ix) const {
  const uint32_t t = run.graph->TemplateOf(ix);
  const StepTemplate& step = run.graph->templates()[t];
  const uint32_t instance = step.InstanceOf(ix);
  std::vector<std::vector<ArtifactId>> out;
  out.reserve(step.inputs.size());
  for (const InputBinding& input : step.inputs) {
    std::vector<ArtifactId>& ids = out.emplace_back();
    if (input.source == InputSpec::Source::kArtifact) {
      const auto detail = run.details.find(ix);
      const size_t i = out.size() - 1;
      if (detail != run.details.end() && i < detail->second.external.size()) ids.push_back(detail->second.external[i]);
    }
    if (input.source != InputSpec::Source::kFrom) continue;
    const StepTemplate& producer = run.graph->templates()[input.producer];
    const auto landed = [&](uint32_t i) -> ArtifactId {
      // What a failed producer published early is for early inputs alone.
      if (!ORCH_PLANTED("count_failed_output") && !input.early && !IsOk(run.cells[producer.at(i)].state)) return 0;
      return run.artifacts[producer.output_base + i * producer.outputs + input.output];
    };
    switch (input.kind) {
      case EdgeKind::kAll:
        for (uint32_t i = 0; i < producer.count; ++i) ids.push_back(landed(i));
        break;
      case EdgeKind::kItem:
        ids.push_back(landed(input.item_producer[instance]));
        break;
      case EdgeKind::kIndex:
        ids.push_back(landed(input.index));
        break;
      case EdgeKind::kGroup:  // brings no data
        break;
    }
  }
  return out;
}

// The slots of the step's line have been taken by the pass.
void Dispatcher::Grant(RunInMemory& run, StepIx ix) {
  StepCell& cell = run.cells[ix];
  StepDetail& detail = Detail(run, ix);
  detail.queued = false;
  ++cell.attempt;
  cell.published = 0;
  detail.row.exit_code.reset();
  detail.row.signal.reset();
  detail.row.started = 0;
  LiveAttempt& attempt = run.live[ix];
  attempt.row.run = run.header.key;
  attempt.row.ix = ix;
  attempt.row.number = cell.attempt;
  attempt.row.state = AttemptState::kSubmitting;
  attempt.row.key = AttemptKey(policy_.instance, run.header.id, ix, cell.attempt);
  attempt.row.orchestrator = detail.row.orchestrator;
  attempt.row.created = now_.wall;
  attempt.row.created_mono = now_.mono;
  attempt.row.cache_key = detail.cache_key;
  attempt.row.external = detail.external;
  ++live_attempts_;
  const uint32_t number = run.orchestrators[run.graph->TemplateOf(ix)];
  OrchestratorState& orchestrator = orchestrators_[number];
  ++orchestrator.busy;
  if (orchestrator.fresh++ == 0) fresh_orchestrators_.push_back(number);
  if (run.row.started == 0) run.row.started = now_.wall;
  SetStep(run, ix, StepEvent::kSlotGranted, StepState::kSubmitting, Reason::kNone, "");
  SubmitNow(run, ix, attempt);
  const int64_t limit = run.graph->SpecOf(ix).options().queue_timeout_micros;
  if (limit > 0) timers_.push({Timer::Kind::kQueue, now_.mono + limit, run.header.key, ix, cell.attempt});
}

absl::Status Dispatcher::On(AttemptAccepted& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  attempt->waits_to_resubmit = false;
  NoteSuccess(*run, event.ref.ix);
  attempt->row.handle = std::move(event.handle);
  if (!event.external_id.empty()) attempt->row.external_id = std::move(event.external_id);
  if (!event.url.empty()) attempt->row.url = std::move(event.url);
  Touch(*run, event.ref.ix, *attempt);
  const StepState state = run->cells[event.ref.ix].state;
  if (state == StepState::kSubmitting) {
    attempt->row.state = AttemptState::kQueued;
    SetStep(*run, event.ref.ix, StepEvent::kAccepted, StepState::kQueued, Reason::kNone, "");
  } else if (state == StepState::kStopping) {  // the submission and the stop crossed
    AddIntent(Intent::Kind::kCancelAttempt, *run, event.ref.ix, *attempt);
  }
  return absl::OkStatus();
}

absl::Status Dispatcher::On(AttemptRefused& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  const StepIx ix = event.ref.ix;
  AttemptEnd end;
  end.reason = event.reason;
  end.message = event.message;
  end.never_started = true;
  if (run->cells[ix].state == StepState::kStopping) {  // nothing was started, so the stop is complete
    end.stopped = true;
    AttemptEnded stopped{event.ref, std::move(end)};
    return On(stopped);
  }
  if (run->cells[ix].state != StepState::kSubmitting) {
    ++late_events_;
    return absl::OkStatus();
  }
  if (!event.transient) {
    EndAttempt(*run, ix, AttemptState::kFailed, end);
    EndStep(*run, ix, StepEvent::kFailedForGood, StepState::kFailed, event.reason, std::move(event.message));
    return absl::OkStatus();
  }
  if (event.ours) {
    ForgetTrial(*run, ix);
  } else {
    NoteFailure(*run, ix, event.message);
  }
  ++attempt->refusals;
  attempt->waits_to_resubmit = true;
  const int64_t wait = std::min(kResubmitFirstMicros << std::min(attempt->refusals - 1, 10), kResubmitMaxMicros);
  SetStep(*run, ix, StepEvent::kRefusedForNow, StepState::kSubmitting, event.reason, std::move(event.message));
  timers_.push({Timer::Kind::kResubmit, now_.mono + wait, run->header.key, ix, event.ref.attempt});
  return absl::OkStatus();
}

absl::Status Dispatcher::On(AttemptNotFound& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  const bool never_seen = attempt->row.state == AttemptState::kSubmitting && attempt->row.handle.empty();
  if (never_seen && !attempt->row.stopping) {
    attempt->waits_to_resubmit = true;
    ForgetTrial(*run, event.ref.ix);  // the answer of the one that was tried is lost: it is tried again
    Hold(*run, event.ref.ix);         // until the next Tick at least
    return absl::OkStatus();
  }
  AttemptEnd end;
  end.never_started = never_seen;
  end.stopped = attempt->row.stopping;
  end.reason = Reason::kLost;
  end.message = "the orchestrator does not know it any more";
  AttemptEnded ended{event.ref, std::move(end)};
  return On(ended);
}

absl::Status Dispatcher::On(AttemptHeldUp& event) {
  RunInMemory* run = nullptr;
  const LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr || run->cells[event.ref.ix].state != StepState::kQueued) return absl::OkStatus();
  SetStep(*run, event.ref.ix, StepEvent::kHeldUp, StepState::kQueued, event.reason, std::move(event.message));
  return absl::OkStatus();
}

absl::Status Dispatcher::On(AttemptStarted& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  const StepIx ix = event.ref.ix;
  if (attempt->row.started != 0) return absl::OkStatus();  // a repeat
  attempt->waits_to_resubmit = false;
  NoteSuccess(*run, ix);
  attempt->row.started = event.wall != 0 ? event.wall : now_.wall;
  attempt->row.started_mono = now_.mono - std::clamp<int64_t>(now_.wall - attempt->row.started, 0, now_.mono);
  attempt->row.external_id = std::move(event.external_id);
  attempt->row.node = std::move(event.node);
  Touch(*run, ix, *attempt);
  Detail(*run, ix).row.started = attempt->row.started;
  const StepState state = run->cells[ix].state;
  if (state != StepState::kSubmitting && state != StepState::kQueued) {
    MarkDirty(*run, ix);
    return absl::OkStatus();
  }
  attempt->row.state = AttemptState::kRunning;
  SetStep(*run, ix, StepEvent::kStarted, StepState::kRunning, Reason::kNone, "");
  const int64_t limit = run->graph->SpecOf(ix).options().run_timeout_micros;
  if (limit > 0) {
    timers_.push({Timer::Kind::kRun, attempt->row.started_mono + limit, run->header.key, ix, event.ref.attempt});
  }
  StartHeart(*run, ix, *attempt);
  return absl::OkStatus();
}

// Its time begins now, whenever its start was: nobody could have heard it before.
void Dispatcher::StartHeart(RunInMemory& run, StepIx ix, LiveAttempt& attempt) {
  const int64_t limit = run.graph->SpecOf(ix).options().heartbeat_micros;
  if (limit == 0) return;
  attempt.heard_mono = now_.mono;
  timers_.push({Timer::Kind::kHeartbeat, now_.mono + limit, run.header.key, ix, attempt.row.number});
}

absl::Status Dispatcher::On(HeartbeatReceived& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt != nullptr) attempt->heard_mono = now_.mono;
  return absl::OkStatus();
}

absl::Status Dispatcher::On(AttemptEnded& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  if (attempt->row.started == 0 && event.end.started_wall != 0 && !event.end.never_started) {
    AttemptStarted started{event.ref, event.end.external_id, "", event.end.started_wall};  // told by its end
    (void)On(started);
  }
  const StepIx ix = event.ref.ix;
  AttemptEnd& end = event.end;
  AttemptRow& row = attempt->row;
  if (attempt->storing) return absl::OkStatus();  // a repeat
  row.exit_code = end.exit_code;
  row.signal = end.signal;
  row.cpu_seconds = end.cpu_seconds;
  row.peak_memory = end.peak_memory;
  row.stdout_bytes = end.stdout_bytes;
  row.stderr_bytes = end.stderr_bytes;
  if (row.started == 0) row.started = end.started_wall;
  StepDetail& detail = Detail(*run, ix);
  detail.row.exit_code = end.exit_code;
  detail.row.signal = end.signal;
  if (detail.row.started == 0) detail.row.started = row.started;

  const bool stopping = run->cells[ix].state == StepState::kStopping;
  if (stopping && (end.stopped || end.reason == Reason::kLost)) {
    const Reason why = row.stop_reason;
    if (IsTimeout(why)) {
      FailAttempt(*run, ix, end);
    } else {
      EndAttempt(*run, ix, AttemptState::kCancelled, end);
      EndStep(*run, ix, StepEvent::kStopped, StepState::kCancelled, why, "");
    }
    return absl::OkStatus();
  }
  if (end.reason != Reason::kNone) {
    FailAttempt(*run, ix, end);
    return absl::OkStatus();
  }
  // A step that may enter the cache is looked at once more: were its files the same at the end?
  if (run->graph->templates()[run->graph->TemplateOf(ix)].outputs == 0 && row.cache_key.empty()) {
    FinishWell(*run, ix, "", "");
    return absl::OkStatus();
  }
  SetStep(*run, ix, StepEvent::kCommandEnded, StepState::kRunning, Reason::kNone, "");
  row.state = AttemptState::kStoring;
  attempt->storing = true;
  if (IsTimeout(row.stop_reason)) row.stopping = false;  // its time was not over; whoever cancelled it still means it
  Touch(*run, ix, *attempt);
  GiveSlots(*run, ix, *attempt);
  AddIntent(Intent::Kind::kStoreOutputs, *run, ix, *attempt);
  Intent& intent = out_.intents.back();
  intent.output_dir = end.output_dir;
  intent.published.assign(run->graph->SpecOf(ix).outputs.size(), false);
  for (const uint32_t output : attempt->published) intent.published[output] = true;
  for (uint32_t output = 0; ORCH_PLANTED("accept_stale_output") && output < intent.published.size(); ++output) {
    if (run->early_closed.count({ix, output}) > 0) intent.published[output] = true;
  }
  return absl::OkStatus();
}

absl::Status Dispatcher::On(OutputsStored& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr) return absl::OkStatus();
  const StepIx ix = event.ref.ix;
  if (!attempt->storing) {
    ++late_events_;
    return absl::OkStatus();
  }
  if (event.failure != Reason::kNone) {
    AttemptEnd end;
    end.reason = event.failure;
    end.message = std::move(event.message);
    end.exit_code = attempt->row.exit_code;
    FailAttempt(*run, ix, end);
    return absl::OkStatus();
  }
  for (const StoredOutput& output : event.outputs) Land(*run, ix, event.ref.attempt, output, false);
  const bool enters = !event.source_changed && !attempt->row.cache_key.empty();
  FinishWell(*run, ix, enters ? std::move(event.cache_key) : std::string(), std::move(event.parts_json));
  return absl::OkStatus();
}

absl::Status Dispatcher::On(ArtifactPublished& event) {
  RunInMemory* run = nullptr;
  LiveAttempt* attempt = FindLive(event.ref, &run);
  if (attempt == nullptr || attempt->row.state == AttemptState::kStoring) {
    return Error(absl::StatusCode::kFailedPrecondition, "ATTEMPT_STALE",
                 "this attempt is not running any more; what it publishes now is not taken");
  }
  const StepIx ix = event.ref.ix;
  const uint32_t output = event.output.output;
  if (attempt->published.count(output) > 0) return absl::OkStatus();  // the engine compares the bytes
  attempt->published.insert(output);
  Land(*run, ix, event.ref.attempt, event.output, true);
  if (!run->early_closed.insert({ix, output}).second) return absl::OkStatus();
  for (const Edge& edge : run->graph->templates()[run->graph->TemplateOf(ix)].edges) {
    if (edge.early && edge.output == output) CloseFrom(*run, edge, ix, kSeenOk);
  }
  return absl::OkStatus();
}

void Dispatcher::GiveSlots(RunInMemory& run, StepIx ix, LiveAttempt& attempt) {
  if (!attempt.holds_slots) return;
  attempt.holds_slots = false;
  --orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]].busy;
  if (ORCH_PLANTED("leak_slot") && run.cells[ix].state == StepState::kStopping) return;
  pools_.Give(ready_.demand(run.lines[run.graph->TemplateOf(ix)]));
  pass_needed_ = true;
}

ArtifactId Dispatcher::Land(RunInMemory& run, StepIx ix, uint32_t attempt, const StoredOutput& output, bool early) {
  const OutputSpec& spec = run.graph->SpecOf(ix).outputs[output.output];
  ArtifactRow& row = out_.batch.artifacts.emplace_back();
  row.id = next_artifact_id_++;
  row.run = run.header.key;
  row.ix = ix;
  row.attempt = attempt;
  row.output = spec.name;
  row.project = run.header.project;
  row.name = ArtifactNameOf(run, ix, spec);
  row.type = !spec.type.empty() ? spec.type : (spec.value ? "value" : "file");
  row.digest = output.blob.digest;
  row.size = output.blob.size;
  row.value_json = output.value_json;
  row.early = early;
  row.metadata_json = output.metadata_json;
  row.created = now_.wall;
  if (!output.value_json.has_value()) out_.batch.blobs.push_back(output.blob);
  const ArtifactId id = row.id;
  if (!early) WakeForArtifact(run.header.project, row.name);
  run.artifacts[run.graph->OutputSlot(ix, output.output)] = id;
  EventRow& event = AddEvent(run, EventType::kArtifactLanded);
  event.ix = ix;
  event.attempt = attempt;
  event.artifact = id;
  event.output = spec.name;
  return id;
}

void Dispatcher::FinishWell(RunInMemory& run, StepIx ix, std::string cache_key, std::string parts_json) {
  const LiveAttempt& attempt = run.live.at(ix);
  if (!cache_key.empty()) {
    CacheEntryRow& entry = out_.batch.cache_entries.emplace_back();
    entry.project = run.header.project;
    entry.key = cache_key;
    entry.pipeline = run.header.pipeline;
    entry.step = run.graph->StepName(ix);
    entry.run_name = run.header.name;
    entry.run = run.header.key;
    entry.ix = ix;
    entry.attempt = attempt.row.number;
    entry.parts_json = std::move(parts_json);
    entry.created = now_.wall;
    const uint32_t outputs = run.graph->templates()[run.graph->TemplateOf(ix)].outputs;
    for (uint32_t o = 0; o < outputs; ++o) entry.artifacts.push_back(run.artifacts[run.graph->OutputSlot(ix, o)]);
    cache_changes_.Note(cache_key);
    EndFlight(run, ix, attempt.row.cache_key, cache_key == attempt.row.cache_key);
  }
  for (const uint32_t output : attempt.published) {  // what was published early counts for others from now on
    const OutputSpec& spec = run.graph->SpecOf(ix).outputs[output];
    WakeForArtifact(run.header.project, ArtifactNameOf(run, ix, spec));
  }
  EndAttempt(run, ix, AttemptState::kSucceeded, {});
  EndStep(run, ix, StepEvent::kSucceeded, StepState::kSucceeded, Reason::kNone, "");
}

// Its row goes out as it is now; nothing of the attempt stays in memory.
void Dispatcher::EndAttempt(RunInMemory& run, StepIx ix, AttemptState state, const AttemptEnd& end) {
  const auto found = run.live.find(ix);
  CHECK(found != run.live.end());
  LiveAttempt& attempt = found->second;
  GiveSlots(run, ix, attempt);
  ForgetTrial(run, ix);
  AttemptRow& row = attempt.row;
  row.state = state;
  row.reason = state == AttemptState::kCancelled || state == AttemptState::kTimedOut ? row.stop_reason : end.reason;
  row.message = end.message;
  row.platform_failure = IsPlatformFailure(end);
  row.ended = std::max(end.ended_wall != 0 ? end.ended_wall : now_.wall, row.started);
  AddIntent(Intent::Kind::kReleaseAttempt, run, ix, attempt);
  const std::string row_key = row.cache_key;  // who led by it does so no more
  out_.batch.attempts.push_back(std::move(row));
  EndFlight(run, ix, row_key, false);
  run.live.erase(found);
  --live_attempts_;
}

void Dispatcher::FailAttempt(RunInMemory& run, StepIx ix, const AttemptEnd& end) {
  const Reason asked = run.live.at(ix).row.stopping ? run.live.at(ix).row.stop_reason : Reason::kNone;
  // A command that had ended before the signal ended by itself.
  const Reason stop_reason = end.stopped || end.reason == Reason::kLost ? asked : Reason::kNone;
  StepDetail& detail = Detail(run, ix);
  const RetryPolicy& policy = run.graph->SpecOf(ix).options().retry;
  ++(IsPlatformFailure(end) ? detail.budget.platform : detail.budget.charged);
  const Reason reason = IsTimeout(stop_reason) ? stop_reason : end.reason;
  const bool may_go_on = asked == Reason::kNone || IsTimeout(asked);  // nobody wants it any more otherwise
  const bool again = may_go_on && (run.row.state == RunState::kRunning || run.row.state == RunState::kPaused) &&
                     MayRetry(policy, end, stop_reason, detail.budget);
  const std::string key = run.live.at(ix).row.key;
  EndAttempt(run, ix, EndState(end, stop_reason), end);
  if (!again) {
    EndStep(run, ix, StepEvent::kFailedForGood, StepState::kFailed, reason, end.message);
    return;
  }
  const int64_t wait = BackoffMicros(policy, detail.budget.charged + detail.budget.platform, key);
  detail.row.retry_at = now_.wall + wait;
  detail.row.retry_at_mono = now_.mono + wait;
  SetStep(run, ix, StepEvent::kFailedForRetry, StepState::kBackoff, reason, end.message);
  timers_.push({Timer::Kind::kRetry, detail.row.retry_at_mono, run.header.key, ix, run.cells[ix].attempt});
}

void Dispatcher::StopAttempt(RunInMemory& run, StepIx ix, Reason reason, bool force) {
  const auto found = run.live.find(ix);
  if (found == run.live.end()) return;
  LiveAttempt& attempt = found->second;
  if (attempt.row.state == AttemptState::kStoring) {
    // Its command has ended: the outputs count. But if they cannot be stored, nobody wants it again.
    if (IsTimeout(reason) || attempt.row.stopping) return;
    attempt.row.stopping = true;
    attempt.row.stop_reason = reason;
    Touch(run, ix, attempt);
    return;
  }
  if (run.cells[ix].state != StepState::kStopping) {
    attempt.row.stopping = true;
    attempt.row.stop_reason = reason;
    Touch(run, ix, attempt);
    SetStep(run, ix, StepEvent::kStopRequested, StepState::kStopping, reason, "");
    timers_.push({Timer::Kind::kStop, now_.mono + policy_.grace_micros + kStopSlackMicros, run.header.key, ix,
                  attempt.row.number});
  } else {
    // Nobody wants it again, so it is not tried again, as it would be after its time-out.
    if (reason == Reason::kCancelRequested && attempt.row.stop_reason != reason) {
      attempt.row.stop_reason = reason;
      Touch(run, ix, attempt);
    }
    if (!force) return;
  }
  if (attempt.waits_to_resubmit) {  // the platform has nothing to stop
    AttemptEnd end;
    end.stopped = true;
    end.never_started = true;
    AttemptEnded ended{{run.header.key, ix, attempt.row.number}, std::move(end)};
    (void)On(ended);  // it is live, so the event cannot be refused
    return;
  }
  AddIntent(Intent::Kind::kCancelAttempt, run, ix, attempt);
  out_.intents.back().forced = force;
}

// What waits for a limit of days would stay for days, however soon it ends.
void Dispatcher::DropDeadTimers() {
  if (timers_.size() < most_timers_) return;
  std::erase_if(timers_.c, [this](const Timer& timer) { return !IsAlive(timer); });
  std::make_heap(timers_.c.begin(), timers_.c.end(), std::greater<>());
  most_timers_ = std::max(kFewTimers, 2 * timers_.size());
}

bool Dispatcher::IsAlive(const Timer& timer) const {
  if (timer.kind == Timer::Kind::kOrchestrator) return true;
  const RunInMemory* run = Find(timer.run);
  if (run == nullptr) return false;
  if (timer.kind == Timer::Kind::kDeadline) return timer.due == run->row.deadline_mono;
  const StepCell& cell = run->cells[timer.ix];
  return cell.attempt == timer.attempt && !IsTerminal(cell.state);
}

void Dispatcher::FireTimer(const Timer& timer) {
  if (timer.kind == Timer::Kind::kOrchestrator) {
    if (orchestrators_[timer.ix].wake_at == timer.due) LookAt(timer.ix);
    return;
  }
  RunInMemory* run = FindRun(timer.run);
  if (run == nullptr) return;
  if (timer.kind == Timer::Kind::kDeadline) {
    if (timer.due != run->row.deadline_mono) return;  // an earlier generation's
    if (run->row.state == RunState::kHalting && run->row.reason != Reason::kRunDeadline) {
      // A step failed, and those that were live may go on, but not for longer than the run. Why it halts stays.
      SetRun(*run, RunEvent::kDeadlineReached, RunState::kHalting, run->row.reason, run->row.message);
      StopLive(*run, Reason::kRunDeadline, false);
      return;
    }
    if (run->row.state != RunState::kRunning && run->row.state != RunState::kPaused) return;
    SetRun(*run, RunEvent::kDeadlineReached, RunState::kHalting, Reason::kRunDeadline, "the run's time is over");
    StopLive(*run, Reason::kRunDeadline, false);
    StopRest(*run);
    return;
  }
  if (run->cells[timer.ix].attempt != timer.attempt) return;
  const StepState state = run->cells[timer.ix].state;
  const auto live = run->live.find(timer.ix);
  switch (timer.kind) {
    case Timer::Kind::kQueue:
      if (state == StepState::kSubmitting || state == StepState::kQueued) {
        StopAttempt(*run, timer.ix, Reason::kQueueTimeout, false);
      }
      return;
    case Timer::Kind::kRun:
      if (state == StepState::kRunning) StopAttempt(*run, timer.ix, Reason::kRunTimeout, false);
      return;
    case Timer::Kind::kRetry:
      if (state == StepState::kBackoff) BecomeReady(*run, timer.ix, false);
      return;
    case Timer::Kind::kStop:
      if (state != StepState::kStopping) return;
      StopAttempt(*run, timer.ix, live->second.row.stop_reason, true);
      timers_.push({Timer::Kind::kStop, now_.mono + kStopAgainMicros, timer.run, timer.ix, timer.attempt});
      return;
    case Timer::Kind::kResubmit:
      if (state != StepState::kSubmitting || !live->second.waits_to_resubmit) return;
      Hold(*run, timer.ix);
      return;
    case Timer::Kind::kHeartbeat: {
      if (state != StepState::kRunning || live->second.row.state == AttemptState::kStoring) return;
      const int64_t due = live->second.heard_mono + run->graph->SpecOf(timer.ix).options().heartbeat_micros;
      if (due > now_.mono) {
        timers_.push({Timer::Kind::kHeartbeat, due, timer.run, timer.ix, timer.attempt});
      } else {
        StopAttempt(*run, timer.ix, Reason::kHeartbeatTimeout, false);
      }
      return;
    }
    case Timer::Kind::kDeadline:
    case Timer::Kind::kOrchestrator:
      return;
  }
}

}  // namespace orch
