// What clients ask of runs and steps: cancel, pause, skip, retry, delete.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/base/status.h"
#include "server/core/dispatcher.h"
#include "server/core/fanout.h"
#include "server/core/reopening.h"

namespace orch {
namespace {

absl::Status Refused(absl::string_view reason, const std::string& message) {
  return Error(absl::StatusCode::kFailedPrecondition, reason, message);
}

absl::Status HasEnded() { return Refused("RUN_ENDED", "the run has ended; use retry-run to go on with it"); }

}  // namespace

absl::Status Dispatcher::On(CancelRequested& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr) return absl::OkStatus();  // it has ended: nothing to do
  if (!event.steps.empty()) {
    for (const StepIx ix : event.steps) {
      if (ix >= run->cells.size()) {
        return Error(absl::StatusCode::kNotFound, "STEP_NOT_FOUND", absl::StrCat("the run has no step number ", ix));
      }
    }
    for (const StepIx ix : event.steps) {
      if (run->live.count(ix) > 0) {
        StopAttempt(*run, ix, Reason::kCancelRequested, event.force);
      } else if (!IsTerminal(run->cells[ix].state)) {
        EndStep(*run, ix, StepEvent::kCancelRequested, StepState::kCancelled, Reason::kCancelRequested, "");
      }
    }
    return absl::OkStatus();
  }
  if (run->row.state == RunState::kCancelling) {
    if (event.force && !run->row.cancel_forced) {
      run->row.cancel_forced = true;
      SetRun(*run, RunEvent::kCancelRequested, RunState::kCancelling, run->row.reason, run->row.message);
      StopLive(*run, Reason::kCancelRequested, true);
    }
    return absl::OkStatus();
  }
  if (IsTerminal(run->row.state)) return absl::OkStatus();
  run->row.cancel_forced = event.force;
  SetRun(*run, RunEvent::kCancelRequested, RunState::kCancelling, Reason::kCancelRequested, "");
  StopLive(*run, Reason::kCancelRequested, event.force);
  StopRest(*run);
  return absl::OkStatus();
}

absl::Status Dispatcher::On(PauseRequested& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr || IsTerminal(run->row.state)) return HasEnded();
  if (run->row.state == RunState::kPaused) return absl::OkStatus();
  if (run->row.state != RunState::kRunning) {
    return Refused("RUN_STOPPING",
                   absl::StrCat("the run is ", Name(run->row.state), ": nothing more of it starts anyway"));
  }
  SetRun(*run, RunEvent::kPauseRequested, RunState::kPaused, Reason::kRunPaused, "");
  AddSweep(Sweep::Kind::kHoldBack, *run, 0, run->graph->step_count(), 0);
  return absl::OkStatus();
}

absl::Status Dispatcher::On(ResumeRequested& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr || IsTerminal(run->row.state)) return HasEnded();
  if (run->row.state == RunState::kRunning) return absl::OkStatus();
  if (run->row.state != RunState::kPaused) {
    return Refused("RUN_STOPPING", absl::StrCat("the run is ", Name(run->row.state),
                                                "; wait for its end, then use retry-run to go on with it"));
  }
  SetRun(*run, RunEvent::kResumeRequested, RunState::kRunning, Reason::kNone, "");
  AddSweep(Sweep::Kind::kOfferAgain, *run, 0, run->graph->step_count(), 0);
  return absl::OkStatus();
}

absl::Status Dispatcher::On(SkipRequested& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr || IsTerminal(run->row.state)) return HasEnded();
  for (const StepIx ix : event.steps) {
    if (ix >= run->cells.size()) {
      return Error(absl::StatusCode::kNotFound, "STEP_NOT_FOUND", absl::StrCat("the run has no step number ", ix));
    }
    const StepState state = run->cells[ix].state;
    if (run->live.count(ix) > 0) {
      return Refused("STEP_STARTED", absl::StrCat("step `", run->graph->StepName(ix), "` is ", Name(state),
                                                  "; stop it instead: cancel-run --step"));
    }
    if (IsTerminal(state) && state != StepState::kSkipped) {
      return Refused("STEP_ENDED",
                     absl::StrCat("step `", run->graph->StepName(ix), "` has ended already: it is ", Name(state)));
    }
  }
  for (const StepIx ix : event.steps) {
    if (IsTerminal(run->cells[ix].state)) continue;
    EndStep(*run, ix, StepEvent::kSkipRequested, StepState::kSkipped, Reason::kSkipRequested, "an operator skipped it");
  }
  return absl::OkStatus();
}

// What came of its list may be something else now: it is made again, with all that is linked to it by item.
std::shared_ptr<const Graph> Dispatcher::WithoutChosenFanouts(std::shared_ptr<const Graph> graph,
                                                              const std::vector<bool>& chosen) {
  std::vector<uint32_t> again;
  for (uint32_t t = 0; graph->fans_out_at_run_time() && t < graph->templates().size(); ++t) {
    const StepTemplate& step = graph->step(t);
    if (step.expanded && chosen[step.group]) again.push_back(t);
  }
  return again.empty() || ORCH_PLANTED("keep_old_list") ? graph : graph->Without(again);
}

absl::Status Dispatcher::On(RunRetried& event) {
  const RunKey key = event.run.header.key;
  if (FindRun(key) != nullptr) {
    return Refused("RUN_NOT_ENDED", absl::StrCat("run `", event.run.header.name,
                                                 "` has not ended; wait for it, or cancel-run it first"));
  }
  if (event.run.row.state != RunState::kFailed && event.run.row.state != RunState::kCancelled) {
    return Refused("RUN_SUCCEEDED", absl::StrCat("run `", event.run.header.name, "` is ", Name(event.run.row.state),
                                                 ": only one that failed or was cancelled is retried; submit it anew"));
  }
  RETURN_IF_ERROR(CheckRoomForRun(static_cast<int64_t>(runs_.size()), policy_.live_runs));
  RETURN_IF_ERROR(CheckComponents(event.run.header, *event.run.graph));
  ForgetWork(key);
  event.run.attempts.clear();
  event.run.graph = WithoutOpenFanouts(std::move(event.run.graph), event.run.steps);
  const std::vector<bool> chosen = StepsToReopen(event);
  event.run.graph = WithoutChosenFanouts(std::move(event.run.graph), chosen);
  RunInMemory& run = Adopt(std::move(event.run));
  out_.graphs.emplace_back(key, run.graph);
  ++run.row.generation;
  if (!event.numbering.empty()) {
    run.header.numbering = run.row.generation;
    out_.batch.numberings.push_back({key, run.row.generation, std::move(event.numbering)});
    for (FanoutRow& row : event.fanouts) out_.batch.fanouts.push_back(std::move(row));
  }
  out_.batch.retried_runs.push_back(run.header);
  run.row.started = 0;
  run.row.ended = 0;
  run.row.cancel_forced = false;
  run.row.deadline = 0;
  run.row.deadline_mono = 0;
  SetRun(run, RunEvent::kRetried, RunState::kRunning, Reason::kNone, absl::StrCat("generation ", run.row.generation));
  if (run.header.timeout_micros > 0) {
    run.row.deadline = now_.wall + run.header.timeout_micros;
    run.row.deadline_mono = now_.mono + run.header.timeout_micros;
    timers_.push({Timer::Kind::kDeadline, run.row.deadline_mono, key, 0, 0});
  }
  for (StepIx ix = 0; ix < run.cells.size(); ++ix) {
    const StepTemplate& step = run.graph->step(run.graph->TemplateOf(ix));
    const bool has = step.Has(ix);
    const StepCell& cell = run.cells[ix];
    const bool gone = !has && (step.removed || !step.at_run_time() || step.expanded) && !IsOk(cell.state) &&
                      cell.reason != Reason::kStepRemoved;
    if (!chosen[ix] && !gone) continue;
    for (uint32_t o = 0; has && o < step.outputs && step.group != ix; ++o) {
      run.artifacts[run.graph->OutputSlot(ix, o)] = 0;
    }
    if (!IsTerminal(cell.state)) continue;
    const std::string orchestrator = Detail(run, ix).row.orchestrator;
    StepRow& row = Detail(run, ix).row;
    row = {};
    row.run = key;
    row.ix = ix;
    row.name = run.graph->StepName(ix);
    row.earlier_attempts = run.cells[ix].attempt;
    row.orchestrator = orchestrator;
    ++run.open_steps;
    SetStep(run, ix, StepEvent::kReopened, StepState::kWaiting, Reason::kNone, "");
    if (gone) RemoveStep(run, ix, "the pipeline does not have it any more");
  }
  run.any_failed = false;
  for (StepIx ix = 0; ix < run.cells.size(); ++ix) {
    if (!IsTerminal(run.cells[ix].state) || !run.graph->Has(ix)) continue;
    if (run.cells[ix].state == StepState::kFailed) run.any_failed = true;
    ended_.emplace_back(key, ix);
  }
  // An output that was published early counts while its attempt does.
  std::erase_if(run.early_closed, [&](const auto& closed) { return !IsTerminal(run.cells[closed.first].state); });
  CloseEarly(run);
  AddSweep(Sweep::Kind::kOpenRoots, run, 0, run.graph->step_count(), 0);
  if (run.open_steps == 0) finished_runs_.push_back(key);
  return absl::OkStatus();
}

// It does not take part any more, and is no harm to those that do.
void Dispatcher::RemoveStep(RunInMemory& run, StepIx ix, std::string message) {
  EndStep(run, ix, StepEvent::kRemoved, StepState::kSkipped, Reason::kStepRemoved, std::move(message));
}

// Of the generation before: its steps have ended, and whoever was to be told of that is gone.
void Dispatcher::ForgetWork(RunKey key) {
  std::erase_if(ended_, [key](const auto& ended) { return ended.first == key; });
  const auto sweeps = sweeps_.find(key);
  if (sweeps != sweeps_.end()) {
    sweeps_.erase(sweeps);
    std::erase(sweep_turns_, key);
  }
}

absl::Status Dispatcher::On(RunsDeleted& event) {
  for (const DeletedRunRow& run : event.runs) {
    if (FindRun(run.key) == nullptr && hooks_.Has(run.key)) {
      return Error(absl::StatusCode::kFailedPrecondition, "RUN_NOT_ENDED",
                   absl::StrCat("run `", run.name, "` has hooks that have not ended; try again when they have"));
    }
    if (FindRun(run.key) == nullptr) continue;
    return Error(absl::StatusCode::kFailedPrecondition, "RUN_NOT_ENDED",
                 absl::StrCat("run `", run.name, "` has not ended; wait for it, or cancel-run it first"));
  }
  for (DeletedRunRow& run : event.runs) {
    EventRow& told = out_.batch.events.emplace_back();
    told.sequence = next_sequence_++;
    told.time = now_.wall;
    told.type = EventType::kRunDeleted;
    told.run = run.key;
    told.message = run.name;
    told.output = run.id;
    run.deleted = now_.wall;
    out_.batch.removals.runs.push_back(std::move(run));
  }
  return absl::OkStatus();
}

}  // namespace orch
