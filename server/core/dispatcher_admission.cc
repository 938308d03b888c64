// What an orchestrator takes now: its circuit breaker, its rate, and the attempts that wait to be submitted again.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/dispatcher.h"
#include "server/core/explain.h"

namespace orch {
namespace {

// A backend that does not say how its platform is.
constexpr int64_t kProbeMicros = 60'000'000;

}  // namespace

int Dispatcher::AllowanceOf(const OrchestratorState& orchestrator, int most) const {
  if (!orchestrator.breaker.MaySubmit()) return 0;
  if (orchestrator.breaker.state() == Breaker::State::kTrying) most = 1;
  return static_cast<int>(orchestrator.rate.Available(now_.mono, most));
}

void Dispatcher::LookLater(uint32_t number, int64_t due) {
  OrchestratorState& orchestrator = orchestrators_[number];
  if (due <= now_.mono || due == INT64_MAX || (orchestrator.wake_at != 0 && orchestrator.wake_at <= due)) return;
  orchestrator.wake_at = due;  // an earlier timer finds another time here, and does nothing
  timers_.push({Timer::Kind::kOrchestrator, due, 0, number, 0});
}

void Dispatcher::LookAt(uint32_t number) {
  OrchestratorState& orchestrator = orchestrators_[number];
  orchestrator.wake_at = 0;
  if (orchestrator.breaker.BeginProbe(now_.mono)) {
    orchestrator.probe_until = now_.mono + kProbeMicros;
    Intent& intent = out_.intents.emplace_back();
    intent.kind = Intent::Kind::kProbeOrchestrator;
    intent.orchestrator = orchestrator.name;
  } else if (orchestrator.breaker.state() == Breaker::State::kProbing && orchestrator.probe_until <= now_.mono) {
    orchestrator.breaker.Probed(policy_.breaker, now_, false, "it did not say how it is within a minute");
  }
  LookLater(number, orchestrator.breaker.probe_due());
  if (orchestrator.breaker.state() == Breaker::State::kProbing) LookLater(number, orchestrator.probe_until);
  pass_needed_ = true;
}

void Dispatcher::NoteFailure(const RunInMemory& run, StepIx ix, const std::string& why) {
  const uint32_t number = run.orchestrators[run.graph->TemplateOf(ix)];
  Breaker& breaker = orchestrators_[number].breaker;
  if (breaker.Failed(policy_.breaker, now_, why)) LookLater(number, breaker.probe_due());
}

void Dispatcher::NoteSuccess(const RunInMemory& run, StepIx ix) {
  if (OrchestratorOf(run, ix).breaker.Succeeded(now_)) pass_needed_ = true;
}

void Dispatcher::NoteSubmission(OrchestratorState& orchestrator, const AttemptRef& ref) {
  orchestrator.rate.Take(now_.mono);
  if (orchestrator.breaker.state() != Breaker::State::kTrying) return;
  orchestrator.breaker.TrialBegan();
  orchestrator.trial = {ref.run, ref.ix, ref.attempt};
}

// It is over, and the platform has not said what it thinks of it: refused by ourselves, stopped, or not there.
void Dispatcher::ForgetTrial(const RunInMemory& run, StepIx ix) {
  OrchestratorState& orchestrator = OrchestratorOf(run, ix);
  if (orchestrator.breaker.state() != Breaker::State::kTrying) return;
  if (orchestrator.trial != std::make_tuple(run.header.key, ix, run.cells[ix].attempt)) return;
  orchestrator.breaker.TrialVanished();
  pass_needed_ = true;
}

void Dispatcher::Hold(const RunInMemory& run, StepIx ix) {
  const uint32_t number = run.orchestrators[run.graph->TemplateOf(ix)];
  orchestrators_[number].held.insert({run.header.key, ix, run.cells[ix].attempt});
  holding_.insert(number);
}

void Dispatcher::WorkOffHeld() {
  for (auto it = holding_.begin(); it != holding_.end();) {
    const uint32_t number = *it;
    OrchestratorState& orchestrator = orchestrators_[number];
    int may = orchestrator.healthy ? AllowanceOf(orchestrator, policy_.grants) : 0;
    while (may > 0 && !orchestrator.held.empty()) {
      const auto [key, ix, attempt] = *orchestrator.held.begin();
      orchestrator.held.erase(orchestrator.held.begin());
      RunInMemory* run = FindRun(key);
      if (run == nullptr) continue;
      const auto live = run->live.find(ix);
      if (live == run->live.end() || live->second.row.number != attempt || !live->second.waits_to_resubmit ||
          run->cells[ix].state != StepState::kSubmitting) {
        continue;  // it has ended, or the platform has said something of it meanwhile
      }
      live->second.waits_to_resubmit = false;
      SubmitNow(*run, ix, live->second);
      --may;
    }
    if (orchestrator.held.empty()) {
      it = holding_.erase(it);
      continue;
    }
    LookLater(number, orchestrator.rate.NextAt());
    ++it;
  }
}

absl::Status Dispatcher::On(OrchestratorProbed& event) {
  const uint32_t number = InternOrchestrator(event.name);
  Breaker& breaker = orchestrators_[number].breaker;
  breaker.Probed(policy_.breaker, now_, event.well, std::move(event.why));
  LookLater(number, breaker.probe_due());
  pass_needed_ = true;
  return absl::OkStatus();
}

std::optional<OrchestratorHealth> Dispatcher::HealthOf(const std::string& name) const {
  const auto found = orchestrator_by_name_.find(name);
  if (found == orchestrator_by_name_.end()) return std::nullopt;
  const OrchestratorState& orchestrator = orchestrators_[found->second];
  OrchestratorHealth out;
  out.reachable = orchestrator.healthy;
  out.breaker = orchestrator.breaker.state();
  out.failures = orchestrator.breaker.failures();
  out.since_wall = orchestrator.healthy ? orchestrator.breaker.since_wall() : orchestrator.unhealthy_wall;
  if (orchestrator.healthy && out.breaker == Breaker::State::kClosed) {
    out.since_wall = std::max(out.since_wall, orchestrator.unhealthy_wall);  // well again since
  }
  out.last_error = orchestrator.healthy ? orchestrator.breaker.last_error() : orchestrator.why_not;
  out.retry_wall = orchestrator.breaker.retry_wall();
  out.running = orchestrator.busy;
  out.held = static_cast<int64_t>(orchestrator.held.size());
  return out;
}

// Why it takes nothing now, for people; empty: its breaker is not why.
std::string Dispatcher::AdmissionWords(const OrchestratorState& orchestrator) const {
  const Breaker& breaker = orchestrator.breaker;
  if (breaker.state() == Breaker::State::kClosed) return "";
  std::string then = "it is being asked how it is";
  if (breaker.state() == Breaker::State::kOpen) {
    then = absl::StrCat("it is asked how it is at ", ClockWords(breaker.retry_wall()));
  } else if (breaker.state() == Breaker::State::kTrying) {
    then = "one submission is tried";
  }
  return absl::StrCat("orchestrator `", orchestrator.name, "` is unhealthy since ", ClockWords(breaker.since_wall()),
                      ": it refused ", breaker.failures(),
                      " submissions in a row, at last with: ", breaker.last_error(), "; ", then);
}

}  // namespace orch
