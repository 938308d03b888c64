// Apply, Tick and Take, and what concerns whole runs. What clients ask of them is in dispatcher_control.cc, steps are
// in dispatcher_steps.cc, attempts in dispatcher_attempts.cc, the way back from the store in dispatcher_restore.cc.
#include "server/core/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/base/status.h"

namespace orch {
namespace {
// A platform with fewer attempts than this is not kept waiting for more.
constexpr int64_t kBusyEnough = 2;
constexpr int kSweepTurn = 256;  // steps
constexpr char kOrchestrator[] = "orchestrator";
constexpr char kArtifactStore[] = "artifact store";
constexpr char kPool[] = "pool";
}  // namespace

Dispatcher::Dispatcher(CorePolicy policy)
    : policy_(std::move(policy)),
      hooks_(policy_.instance, policy_.hooks),
      next_sequence_(policy_.first_sequence),
      next_run_key_(policy_.first_run_key),
      next_artifact_id_(policy_.first_artifact_id) {}

absl::Status Dispatcher::Apply(Event event, Now now) {
  now_ = now;
  absl::Status status = std::visit([this](auto& e) { return On(e); }, event);
  DrainEnded(policy_.slice);
  for (const RunKey key : std::exchange(finished_runs_, {})) {
    if (RunInMemory* run = FindRun(key)) MaybeEndRun(*run);
  }
  return status;
}

void Dispatcher::AddSweep(Sweep::Kind kind, const RunInMemory& run, StepIx first, StepIx end, uint8_t seen) {
  std::deque<Sweep>& sweeps = sweeps_[run.header.key];
  if (sweeps.empty()) sweep_turns_.push_back(run.header.key);
  sweeps.push_back({kind, run.header.key, first, end, seen});
}

// Runs take turns: one with very many steps does not keep the first step of another waiting.
void Dispatcher::RunSweeps(int budget) {
  while (!sweep_turns_.empty() && budget > 0) {
    const RunKey key = sweep_turns_.front();
    RunInMemory* run = FindRun(key);
    std::deque<Sweep>& sweeps = sweeps_[key];
    for (int turn = kSweepTurn; turn > 0 && budget > 0 && !sweeps.empty();) {
      Sweep& sweep = sweeps.front();
      if (run == nullptr || sweep.next >= sweep.end) {
        sweeps.pop_front();
        continue;
      }
      const StepIx ix = sweep.next++;
      const Sweep::Kind kind = sweep.kind;
      const uint8_t seen = sweep.seen;
      --turn;
      --budget;
      switch (kind) {
        case Sweep::Kind::kOpenRoots:
          if (run->cells[ix].open == 0) Judge(*run, ix);
          break;
        case Sweep::Kind::kCloseEdge:
          CloseOne(*run, ix, seen);
          break;
        case Sweep::Kind::kStopRest:
          StopStep(*run, ix);
          break;
        case Sweep::Kind::kHoldBack:
          if (run->row.state == RunState::kPaused && run->cells[ix].state == StepState::kReady) Park(*run, ix);
          break;
        case Sweep::Kind::kOfferAgain:
          if (run->cells[ix].state == StepState::kReady) Offer(*run, ix, ReadySince(*run, ix));
          break;
      }
    }
    sweep_turns_.pop_front();
    if (sweeps.empty()) {
      sweeps_.erase(key);
    } else {
      sweep_turns_.push_back(key);
    }
  }
}

void Dispatcher::Tick(Now now) {
  now_ = now;
  while (!timers_.empty() && timers_.top().due <= now_.mono) {
    const Timer timer = timers_.top();
    timers_.pop();
    FireTimer(timer);
  }
  DropDeadTimers();
  RunSweeps(policy_.slice);
  DrainEnded(policy_.slice);
  hooks_.Tick(now);
  WorkOffHeld();  // they were granted before those that are ready
  if (pass_needed_) {
    bool refused = false;           // slots were given back: who was passed over for want of them looks again
    std::vector<uint32_t> limited;  // by their rate: they are looked at again
    pass_needed_ = ready_.Pass(
        &pools_,
        [this, &limited](uint32_t o) {
          const OrchestratorState& orchestrator = orchestrators_[o];
          if (!orchestrator.present || !orchestrator.healthy) return 0;
          if (orchestrator.rate.milli() > 0) limited.push_back(o);
          return AllowanceOf(orchestrator, policy_.grants);
        },
        now_.mono, policy_.reserve_after_micros, policy_.grants,
        [this, &refused](uint32_t line, const ReadyQueue::Entry& entry) {
          RunInMemory* run = FindRun(entry.run);
          CHECK(run != nullptr);
          if (MayStart(*run) && TakeLead(*run, entry.ix)) {
            Grant(*run, entry.ix);
          } else {  // it waits for a leader, or the sweep that ends it has not come to it yet
            if (!MayStart(*run)) Park(*run, entry.ix);
            refused = true;
            pools_.Give(ready_.demand(line));
          }
        });
    pass_needed_ = pass_needed_ || refused;
    for (const uint32_t o : limited) LookLater(o, orchestrators_[o].rate.NextAt());
  }
  WorkOffFlights(policy_.slice);
  for (int n = policy_.slice; n > 0 && !unshown_.empty() && unshown_.front().due <= now_.mono; --n) {
    const Unshown front = unshown_.front();
    unshown_.pop_front();
    RunInMemory* run = FindRun(front.run);
    if (run == nullptr || run->cells[front.ix].state != StepState::kReady) continue;
    StepDetail& detail = Detail(*run, front.ix);
    if (detail.logged) continue;
    detail.logged = true;
    MarkDirty(*run, front.ix);
    LogStep(*run, front.ix, "");
  }
  for (const RunKey key : std::exchange(finished_runs_, {})) {
    if (RunInMemory* run = FindRun(key)) MaybeEndRun(*run);
  }
}

int64_t Dispatcher::NextDeadline() const {
  if (!sweeps_.empty() || !ended_.empty() || pass_needed_ || !overtaken_.empty() || !woken_.empty()) return 0;
  int64_t due = hooks_.NextDeadline();
  if (!timers_.empty()) due = std::min(due, timers_.top().due);
  if (!unshown_.empty()) due = std::min(due, unshown_.front().due);
  return due;
}

Dispatcher::Urgency Dispatcher::urgency() const {
  if (run_ended_) return Urgency::kNow;
  if (out_.intents.empty()) return Urgency::kNone;
  for (const Intent& intent : out_.intents) {
    if (intent.kind != Intent::Kind::kSubmitAttempt && intent.kind != Intent::Kind::kReleaseAttempt)
      return Urgency::kNow;
  }
  for (const uint32_t number : fresh_orchestrators_) {
    const OrchestratorState& o = orchestrators_[number];
    if (o.busy - o.fresh < std::max(kBusyEnough, o.busy_before / 2)) return Urgency::kNow;
  }
  return Urgency::kPatient;
}

Decisions Dispatcher::Take() {
  for (const uint32_t number : std::exchange(fresh_orchestrators_, {})) {
    orchestrators_[number].fresh = 0;
    orchestrators_[number].busy_before = orchestrators_[number].busy;
  }
  Batch& batch = out_.batch;
  hooks_.Take(&batch, &out_.intents);
  for (const auto& [key, ix] : dirty_steps_) {
    const auto found = runs_.find(key);
    if (found == runs_.end()) continue;
    RunInMemory& run = *found->second;
    run.cells[ix].dirty = false;
    const auto detail = run.details.find(ix);
    CHECK(detail != run.details.end());
    if (IsTerminal(run.cells[ix].state)) {
      batch.steps.push_back(std::move(detail->second.row));
      run.details.erase(detail);
    } else {
      batch.steps.push_back(detail->second.row);
    }
  }
  dirty_steps_.clear();
  for (const auto& [key, ix] : dirty_attempts_) {
    const auto found = runs_.find(key);
    if (found == runs_.end()) continue;
    const auto live = found->second->live.find(ix);
    if (live == found->second->live.end() || !live->second.dirty) continue;  // it has ended: its row is there already
    live->second.dirty = false;
    batch.attempts.push_back(live->second.row);
  }
  dirty_attempts_.clear();
  for (const RunKey key : dirty_runs_) {
    const auto found = runs_.find(key);
    if (found == runs_.end()) continue;
    RunInMemory& run = *found->second;
    run.dirty = false;
    ++run.row.version;
    batch.runs.push_back(run.row);
    if (!IsTerminal(run.row.state)) continue;
    if (run.has_parallel_pool) {
      std::sort(run.lines.begin(), run.lines.end());
      run.lines.erase(std::unique(run.lines.begin(), run.lines.end()), run.lines.end());
      for (const uint32_t line : run.lines) ready_.Forget(line);
      pools_.Forget(run.parallel_pool);
    }
    runs_.erase(found);
  }
  dirty_runs_.clear();
  run_ended_ = false;
  return std::exchange(out_, {});
}

std::vector<Intent> Dispatcher::TakeAtOnce() {
  std::vector<Intent> now;
  std::vector<Intent> rest;
  for (Intent& intent : out_.intents) (MayRunAtOnce(intent.kind) ? now : rest).push_back(std::move(intent));
  out_.intents = std::move(rest);
  return now;
}

// --- runs ---

const RunInMemory* Dispatcher::Find(RunKey key) const {
  const auto found = runs_.find(key);
  return found == runs_.end() ? nullptr : found->second.get();
}

RunInMemory* Dispatcher::FindRun(RunKey key) {
  const auto found = runs_.find(key);
  return found == runs_.end() ? nullptr : found->second.get();
}

uint32_t Dispatcher::InternOrchestrator(const std::string& name) {
  const auto [it, fresh] = orchestrator_by_name_.emplace(name, static_cast<uint32_t>(orchestrators_.size()));
  if (fresh) {
    orchestrators_.emplace_back();
    orchestrators_.back().name = name;
  }
  return it->second;
}

void Dispatcher::AdoptGraph(RunInMemory& run) {
  const Graph& graph = *run.graph;
  run.cells.resize(graph.step_count());
  run.artifacts.resize(graph.output_count());
  run.open_steps = graph.step_count();
  run.row.counts = {};
  run.row.counts[static_cast<size_t>(StepState::kWaiting)] = graph.step_count();
  if (run.header.max_parallel > 0) {
    run.parallel_pool = pools_.Intern(absl::StrCat("run/", run.header.key));
    run.has_parallel_pool = true;
    pools_.SetCapacity(run.parallel_pool, run.header.max_parallel);
  }
  const auto& templates = graph.templates();
  for (uint32_t t = 0; t < templates.size(); ++t) {
    const std::string& own = graph.spec().steps[t].options().orchestrator;
    const std::string& name = own.empty() ? run.header.orchestrator : own;
    SlotDemand demand;
    for (const Demand& d : templates[t].demands) {
      const bool shared = d.pool.compare(0, 5, "pool/") == 0;
      demand.emplace_back(pools_.Intern(shared ? d.pool : absl::StrCat(name, "/", d.pool)), d.amount);
    }
    demand.emplace_back(pools_.Intern(absl::StrCat(name, "/parallel")), 1);
    if (run.has_parallel_pool) demand.emplace_back(run.parallel_pool, 1);
    const uint32_t orchestrator = InternOrchestrator(name);
    run.orchestrators.push_back(orchestrator);
    run.lines.push_back(ready_.Line(orchestrator, demand));
    run.open_instances.push_back(templates[t].count + (templates[t].at_run_time() ? 1 : 0));
    run.seen.push_back(0);
    if (templates[t].at_run_time()) run.cells[templates[t].group].open = templates[t].group_upstreams;
    for (uint32_t i = 0; i < templates[t].count; ++i) run.cells[templates[t].at(i)].open = templates[t].upstreams;
  }
  for (const StepTemplate& step : templates) {
    if (step.count > 0 || step.at_run_time()) continue;
    for (const Edge& edge : step.edges) {  // an empty fan-out is a single ok
      const StepTemplate& consumer = templates[edge.consumer];
      if (edge.to_group) {
        --run.cells[consumer.group].open;
        run.cells[consumer.group].seen |= kSeenOk;
        continue;
      }
      if (consumer.at_run_time() && !consumer.expanded) {
        Unexpanded& later = run.unexpanded[edge.consumer];
        ++later.closed;
        later.seen |= kSeenOk;
        continue;
      }
      for (uint32_t i = 0; i < consumer.count; ++i) {
        --run.cells[consumer.at(i)].open;
        run.cells[consumer.at(i)].seen |= kSeenOk;
      }
    }
  }
}

absl::Status CheckRoomForRun(int64_t live, int64_t most) {
  if (live < most) return absl::OkStatus();
  return WithRetryDelay(Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_RUNS",
                              absl::StrCat(live, " runs have not ended; at most ", most, " may (limit live_runs)")),
                        1000);
}

// Who submits has looked, but what it found may have been taken away since. Before that nobody may have told of it.
absl::Status Dispatcher::CheckComponents(const RunHeader& header, const Graph& graph) const {
  if (removed_.empty()) return absl::OkStatus();
  const auto gone = [&](const char* kind, const std::string& name, absl::string_view reason,
                        absl::string_view verb) -> absl::Status {
    if (removed_.count({kind, name}) == 0) return absl::OkStatus();
    return Error(absl::StatusCode::kNotFound, reason,
                 absl::StrCat(kind, " `", name, "` has just been deleted; see orchctl ", verb));
  };
  const auto orchestrator = [&](const std::string& name) {
    return gone(kOrchestrator, name, "ORCHESTRATOR_NOT_FOUND", "list-orchestrators");
  };
  RETURN_IF_ERROR(gone(kArtifactStore, header.artifact_store, "ARTIFACT_STORE_NOT_FOUND", "list-artifact-stores"));
  RETURN_IF_ERROR(orchestrator(header.orchestrator));
  const auto& templates = graph.templates();
  for (uint32_t t = 0; t < templates.size(); ++t) {
    if (templates[t].removed) continue;
    RETURN_IF_ERROR(orchestrator(graph.spec().steps[t].options().orchestrator));
    for (const Demand& demand : templates[t].demands) {
      if (!absl::StartsWith(demand.pool, "pool/")) continue;
      RETURN_IF_ERROR(gone(kPool, demand.pool.substr(5), "POOL_NOT_FOUND", "list-pools"));
    }
  }
  return absl::OkStatus();
}

absl::Status Dispatcher::On(RunSubmitted& event) {
  RETURN_IF_ERROR(CheckRoomForRun(static_cast<int64_t>(runs_.size()), policy_.live_runs));
  RETURN_IF_ERROR(CheckComponents(event.header, *event.graph));
  auto owned = std::make_unique<RunInMemory>();
  RunInMemory& run = *owned;
  run.header = std::move(event.header);
  run.header.key = next_run_key_++;
  run.header.step_count = event.graph->step_count();
  run.graph = std::move(event.graph);
  run.found = std::move(event.found);
  run.row.key = run.header.key;
  run.row.version = 0;
  run.row.state = RunState::kPending;
  AdoptGraph(run);
  runs_.emplace(run.header.key, std::move(owned));
  out_.batch.new_runs.push_back(run.header);
  LogRun(run, EventType::kRunSubmitted);
  if (run.header.timeout_micros > 0) {
    run.row.deadline = now_.wall + run.header.timeout_micros;
    run.row.deadline_mono = now_.mono + run.header.timeout_micros;
    timers_.push({Timer::Kind::kDeadline, run.row.deadline_mono, run.header.key, 0, 0});
  }
  SetRun(run, RunEvent::kAdmitted, RunState::kRunning, Reason::kNone, "");
  if (run.open_steps == 0) finished_runs_.push_back(run.header.key);
  AddSweep(Sweep::Kind::kOpenRoots, run, 0, run.graph->step_count(), 0);
  return absl::OkStatus();
}

absl::Status Dispatcher::On(OrchestratorChanged& event) {
  const uint32_t number = InternOrchestrator(event.name);
  if (event.present) removed_.erase({kOrchestrator, event.name});
  for (const PoolId pool : orchestrators_[number].limited) pools_.ClearCapacity(pool);
  orchestrators_[number].limited.clear();
  orchestrators_[number].present = event.present;
  const auto limit = [&](const std::string& what, int64_t slots) {
    const PoolId pool = pools_.Intern(absl::StrCat(event.name, "/", what));
    pools_.SetCapacity(pool, slots);
    orchestrators_[number].limited.push_back(pool);
  };
  for (const auto& [what, slots] : event.capacity) limit(what, slots);
  if (event.max_parallel > 0) limit("parallel", event.max_parallel);
  if (orchestrators_[number].rate.milli() != event.rate_milli) orchestrators_[number].rate.Set(event.rate_milli);
  pass_needed_ = true;
  return absl::OkStatus();
}

absl::Status Dispatcher::On(OrchestratorRemoved& event) {
  if (UsesOrchestrator(event.name)) {
    return Error(absl::StatusCode::kFailedPrecondition, "ORCHESTRATOR_IN_USE",
                 absl::StrCat("runs that have not ended use orchestrator `", event.name, "`; cancel them or wait"));
  }
  removed_.emplace(kOrchestrator, event.name);
  OrchestratorChanged gone{event.name, false, {}, 0, 0};
  return On(gone);
}

absl::Status Dispatcher::On(ArtifactStoreChanged& event) {
  if (event.present) {
    removed_.erase({kArtifactStore, event.name});
    return absl::OkStatus();
  }
  for (const auto& [key, run] : runs_) {
    if (run->header.artifact_store != event.name) continue;
    return Error(absl::StatusCode::kFailedPrecondition, "ARTIFACT_STORE_IN_USE",
                 absl::StrCat("run `", run->header.name, "` keeps its artifacts in artifact store `", event.name,
                              "` and has not ended; cancel it or wait"));
  }
  removed_.emplace(kArtifactStore, event.name);
  return absl::OkStatus();
}

absl::Status Dispatcher::On(OrchestratorHealthChanged& event) {
  OrchestratorState& orchestrator = orchestrators_[InternOrchestrator(event.name)];
  if (orchestrator.healthy != event.healthy) orchestrator.unhealthy_wall = now_.wall;
  orchestrator.healthy = event.healthy;
  orchestrator.why_not = event.healthy ? "" : std::move(event.why);
  pass_needed_ = true;
  return absl::OkStatus();
}

absl::Status Dispatcher::On(PoolChanged& event) {
  if (!event.present && UsesPool(event.name)) {
    return Error(absl::StatusCode::kFailedPrecondition, "POOL_IN_USE",
                 absl::StrCat("steps that have not ended need pool `", event.name, "`; cancel them or wait"));
  }
  const PoolId pool = pools_.Intern(absl::StrCat("pool/", event.name));
  if (event.present) {
    removed_.erase({kPool, event.name});
    pools_.SetCapacity(pool, event.slots);
  } else {
    removed_.emplace(kPool, event.name);
    pools_.ClearCapacity(pool);
  }
  pass_needed_ = true;
  return absl::OkStatus();
}

absl::Status Dispatcher::On(SecretRemoved& event) {
  if (event.force) return absl::OkStatus();
  const std::string user = UserOfSecret(event.project, event.name);
  if (user.empty()) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "SECRET_IN_USE",
               absl::StrCat("secret `", event.name, "` is needed by ", user,
                            ", which has not ended; cancel it or wait, or delete it with `force`"));
}

absl::Status Dispatcher::On(HookReported& event) {
  hooks_.On(event, now_);
  return absl::OkStatus();
}

// In the commit that has the end, so that it is not lost with the daemon.
void Dispatcher::AddRunHook(const RunInMemory& run) {
  const Hooks& hooks = run.graph->spec().hooks;
  const bool failed = run.row.state == RunState::kFailed;
  if (!failed && run.row.state != RunState::kSucceeded) return;
  if ((failed ? hooks.on_failure : hooks.on_success).empty()) return;
  HookRow row;
  row.run = run.header.key;
  row.generation = run.row.generation;
  row.on_failure = failed;
  row.of_state = static_cast<uint8_t>(run.row.state);
  row.reason = run.row.reason;
  row.message = run.row.message;
  hooks_.Add(std::move(row), run.header.id, now_);
}

void Dispatcher::AddStepHook(const RunInMemory& run, StepIx ix) {
  const uint32_t t = run.graph->TemplateOf(ix);
  const Hooks& hooks = run.graph->spec().steps[t].options().hooks;
  const bool failed = run.cells[ix].state == StepState::kFailed;
  const bool group = run.graph->IsGroup(ix);  // its instances have their own, unless there will be none
  if (!failed && (group || !IsOk(run.cells[ix].state))) return;
  if ((failed ? hooks.on_failure : hooks.on_success).empty()) return;
  HookRow row;
  row.run = run.header.key;
  row.ix = ix;
  row.generation = run.row.generation;
  row.on_failure = failed;
  row.step = run.graph->StepName(ix);
  row.attempt = run.cells[ix].attempt;
  row.of_state = static_cast<uint8_t>(run.cells[ix].state);
  row.reason = run.cells[ix].reason;
  if (const auto detail = run.details.find(ix); detail != run.details.end()) {
    row.message = detail->second.row.message;
    row.of_exit_code = detail->second.row.exit_code;
  }
  if (run.graph->templates()[t].hook_data && !group) {
    row.inputs = InputsOf(run, ix);
    for (uint32_t o = 0; o < run.graph->templates()[t].outputs; ++o) {
      row.inputs.push_back({run.artifacts[run.graph->OutputSlot(ix, o)]});
    }
  }
  hooks_.Add(std::move(row), run.header.id, now_);
}

void Dispatcher::SetRun(RunInMemory& run, RunEvent event, RunState to, Reason reason, std::string message) {
  CHECK(IsAllowed(run.row.state, event, to));
  run.row.state = to;
  run.row.reason = reason;
  run.row.message = std::move(message);
  if (IsTerminal(to)) {
    run.row.ended = std::max(now_.wall, run.row.started);  // the wall clock may go back
    run_ended_ = !ORCH_PLANTED("forget_to_commit");
    AddRunHook(run);
  }
  LogRun(run, EventType::kRunStateChanged);
}

bool Dispatcher::MayStart(const RunInMemory& run) const { return run.row.state == RunState::kRunning; }

void Dispatcher::OnStepFailed(RunInMemory& run, StepIx ix) {
  run.any_failed = true;
  if (run.row.state != RunState::kRunning && run.row.state != RunState::kPaused) return;
  if (run.header.execution_mode == ExecutionMode::kContinueOnFailure) return;
  SetRun(run, RunEvent::kStepFailed, RunState::kHalting, Reason::kStepFailed,
         absl::StrCat("step `", run.graph->StepName(ix), "` failed"));
  if (run.header.execution_mode == ExecutionMode::kFailFast) StopLive(run, Reason::kRunHalted, false);
  StopRest(run);
}

void Dispatcher::StopLive(RunInMemory& run, Reason reason, bool force) {
  std::vector<StepIx> steps;
  for (const auto& [ix, live] : run.live) steps.push_back(ix);
  std::sort(steps.begin(), steps.end());
  for (const StepIx ix : steps) StopAttempt(run, ix, reason, force);
}

void Dispatcher::StopRest(RunInMemory& run) { AddSweep(Sweep::Kind::kStopRest, run, 0, run.graph->step_count(), 0); }

void Dispatcher::MaybeEndRun(RunInMemory& run) {
  if (run.open_steps > 0 || IsTerminal(run.row.state)) return;
  switch (run.row.state) {
    case RunState::kCancelling:
      SetRun(run, RunEvent::kAllStepsEnded, RunState::kCancelled, run.row.reason, run.row.message);
      return;
    case RunState::kHalting:
      SetRun(run, RunEvent::kAllStepsEnded, RunState::kFailed, run.row.reason, run.row.message);
      return;
    case RunState::kRunning:
    case RunState::kPaused: {
      if (!run.any_failed) {
        SetRun(run, RunEvent::kAllStepsEnded, RunState::kSucceeded, Reason::kNone, "");
        return;
      }
      const int64_t failed = run.row.counts[static_cast<size_t>(StepState::kFailed)];
      SetRun(run, RunEvent::kAllStepsEnded, RunState::kFailed, Reason::kStepFailed,
             absl::StrCat(failed, failed == 1 ? " step failed" : " steps failed"));
      return;
    }
    case RunState::kPending:
    case RunState::kSucceeded:
    case RunState::kFailed:
    case RunState::kCancelled:
      return;
  }
}

// --- the event log ---

EventRow& Dispatcher::AddEvent(RunInMemory& run, EventType type) {
  EventRow& event = out_.batch.events.emplace_back();
  if (ORCH_PLANTED("reorder_events") && next_sequence_ % 64 == 0) ++next_sequence_;
  event.sequence = next_sequence_++;
  event.time = now_.wall;
  event.type = type;
  event.run = run.header.key;
  run.row.last_sequence = event.sequence;
  if (!run.dirty) {
    run.dirty = true;
    dirty_runs_.push_back(run.header.key);
  }
  return event;
}

void Dispatcher::LogRun(RunInMemory& run, EventType type) {
  EventRow& event = AddEvent(run, type);
  event.state = static_cast<uint8_t>(run.row.state);
  event.reason = run.row.reason;
  event.message = run.row.message;
}

void Dispatcher::LogStep(RunInMemory& run, StepIx ix, std::string message) {
  EventRow& event = AddEvent(run, EventType::kStepStateChanged);
  event.ix = ix;
  event.attempt = run.cells[ix].attempt;
  event.state = static_cast<uint8_t>(run.cells[ix].state);
  event.reason = run.cells[ix].reason;
  event.message = std::move(message);
  const auto detail = run.details.find(ix);
  if (detail != run.details.end()) event.exit_code = detail->second.row.exit_code;
}

// --- facts ---

std::map<std::string, int64_t> Dispatcher::PoolUse() const {
  std::map<std::string, int64_t> out;
  for (PoolId pool = 0; pool < pools_.size(); ++pool) {
    if (pools_.used(pool) > 0) out[pools_.name(pool)] = pools_.used(pool);
  }
  return out;
}

bool Dispatcher::UsesOrchestrator(const std::string& name) const {
  const auto found = orchestrator_by_name_.find(name);
  if (found == orchestrator_by_name_.end()) return false;
  for (const auto& [key, run] : runs_) {
    if (std::find(run->orchestrators.begin(), run->orchestrators.end(), found->second) != run->orchestrators.end()) {
      return true;
    }
  }
  return false;
}

bool Dispatcher::UsesPool(const std::string& name) const {
  const std::string pool = absl::StrCat("pool/", name);
  for (const auto& [key, run] : runs_) {
    for (const StepTemplate& step : run->graph->templates()) {
      for (const Demand& demand : step.demands) {
        if (demand.pool == pool) return true;
      }
    }
  }
  return false;
}

std::string Dispatcher::UserOfSecret(const std::string& project, const std::string& name) const {
  for (const auto& [key, run] : runs_) {
    if (run->header.project != project) continue;
    const std::vector<StepSpec>& steps = run->graph->spec().steps;
    for (size_t t = 0; t < steps.size(); ++t) {
      if (run->open_instances[t] == 0) continue;
      for (const SecretUse& use : steps[t].options().secrets) {
        if (use.name == name) return absl::StrCat("step `", steps[t].name, "` of run `", run->header.name, "`");
      }
    }
  }
  return "";
}

absl::Status Dispatcher::CheckInvariants() const {
  const auto broken = [](const RunInMemory& run, StepIx ix, absl::string_view what) {
    return absl::InternalError(absl::StrCat("run ", run.header.key, " step ", ix, ": ", what));
  };
  // After a restore the ends on record are told to their dependants in slices.
  const bool settled = ended_.empty() && sweeps_.empty();
  int64_t live = 0;
  std::map<PoolId, int64_t> used;
  std::map<uint32_t, int64_t> busy;
  for (const auto& [key, owned] : runs_) {
    const RunInMemory& run = *owned;
    std::array<int64_t, kStepStateCount> counts{};
    int64_t open = 0;
    for (StepIx ix = 0; ix < run.cells.size(); ++ix) {
      const StepCell& cell = run.cells[ix];
      ++counts[static_cast<size_t>(cell.state)];
      if (!IsTerminal(cell.state)) ++open;
      const bool should_live = cell.state == StepState::kSubmitting || cell.state == StepState::kQueued ||
                               cell.state == StepState::kRunning || cell.state == StepState::kStopping;
      if (should_live != (run.live.count(ix) > 0)) return broken(run, ix, "live attempt and state disagree");
      if (cell.state == StepState::kReady && run.details.count(ix) == 0) return broken(run, ix, "READY without detail");
      if (settled && cell.state != StepState::kWaiting && !IsTerminal(cell.state) && cell.open != 0 &&
          run.graph->SpecOf(ix).options().trigger_rule == TriggerRule::kAllSuccess) {
        return broken(run, ix, "started with an open input");
      }
    }
    if (counts != run.row.counts) return broken(run, 0, "counts are wrong");
    if (open != run.open_steps) return broken(run, 0, "open steps are wrong");
    for (const auto& [ix, attempt] : run.live) {
      ++live;
      if (attempt.row.number != run.cells[ix].attempt) return broken(run, ix, "attempt numbers disagree");
      if (!attempt.holds_slots) continue;
      ++busy[run.orchestrators[run.graph->TemplateOf(ix)]];
      for (const auto& [pool, amount] : ready_.demand(run.lines[run.graph->TemplateOf(ix)])) used[pool] += amount;
    }
  }
  if (const std::string wrong = flights_.Check(); !wrong.empty()) return absl::InternalError(wrong);
  if (live != live_attempts_) return absl::InternalError("live attempts are miscounted");
  for (uint32_t number = 0; number < orchestrators_.size(); ++number) {
    if (orchestrators_[number].busy != busy[number]) return absl::InternalError("busy attempts are miscounted");
  }
  for (PoolId pool = 0; pool < pools_.size(); ++pool) {
    if (pools_.used(pool) != used[pool]) {
      return absl::InternalError(absl::StrCat("pool ", pools_.name(pool), ": ", pools_.used(pool),
                                              " slots in use, live attempts hold ", used[pool]));
    }
  }
  return absl::OkStatus();
}

}  // namespace orch
