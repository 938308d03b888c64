// What only the dispatcher knows: who waits for which slot, limit, leader or time. Reads, and decides nothing; bounded,
// since the loop does it.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/core/dispatcher.h"
#include "server/core/explain.h"

namespace orch {
namespace {

constexpr int kMostLooked = 20'000;  // live attempts, for the holders of a pool; steps, for what they wait for

std::string Quote(absl::string_view name) { return absl::StrCat("`", name, "`"); }

std::string Shown(const std::string& pool, int64_t amount) {
  if (absl::EndsWith(pool, "/cpu")) return absl::StrCat(static_cast<double>(amount) / 1000);
  return absl::StrCat(amount);
}

}  // namespace

// A pool as users know it: `run/17` is the run's own limit.
std::string Dispatcher::PoolWords(PoolId pool) const {
  const std::string& name = pools_.name(pool);
  return absl::StartsWith(name, "run/") ? "max_parallel" : name;
}

StepFinder Dispatcher::Finder(const RunInMemory& run) const {
  return [&run](StepIx first, uint32_t count, uint32_t states, size_t limit) {
    StepsFound out;
    const StepIx end = std::min<StepIx>(first + count, static_cast<StepIx>(run.cells.size()));
    for (StepIx ix = first; ix < end; ++ix) {
      const StepCell& cell = run.cells[ix];
      if ((states & Bit(cell.state)) == 0) continue;
      if (out.total++ < static_cast<int64_t>(limit)) out.steps.push_back({ix, cell.state, cell.reason, ""});
    }
    return out;
  };
}

void Dispatcher::ExplainSlots(const RunInMemory& run, StepIx ix, std::vector<Cause>* causes) const {
  const uint32_t line = run.lines[run.graph->TemplateOf(ix)];
  for (const auto& [pool, amount] : ready_.demand(line)) {
    if (pools_.HasRoom(pool, amount)) continue;
    Cause& cause = causes->emplace_back();
    cause.reason = Reason::kWaitingForSlot;
    cause.pool = PoolWords(pool);
    cause.wanted = amount;
    cause.used = pools_.used(pool);
    cause.capacity = pools_.capacity(pool);
    int looked = 0;
    for (const auto& [key, owned] : runs_) {
      for (const auto& [holder, live] : owned->live) {
        if (++looked > kMostLooked) break;
        if (!live.holds_slots) continue;
        for (const auto& [held, slots] : ready_.demand(owned->lines[owned->graph->TemplateOf(holder)])) {
          if (held != pool) continue;
          if (cause.holders.size() < kMostHolders) {
            cause.holders.push_back({owned->header.name, owned->graph->StepName(holder), live.row.number, slots});
          } else {
            ++cause.more;
          }
        }
      }
    }
    cause.text = absl::StrCat("wants ", Shown(pools_.name(pool), amount), " of ", Quote(cause.pool), ", of which ",
                              Shown(pools_.name(pool), cause.used), " of ", Shown(pools_.name(pool), cause.capacity),
                              cause.used == 1 ? " is" : " are", " in use");
    if (!cause.holders.empty()) {
      absl::StrAppend(&cause.text, ", held by ", Quote(cause.holders[0].step), " of run ", Quote(cause.holders[0].run));
      const int64_t others = static_cast<int64_t>(cause.holders.size()) - 1 + cause.more;
      if (others > 0) absl::StrAppend(&cause.text, " and ", others, " more");
    }
  }
}

void Dispatcher::ExplainReady(const RunInMemory& run, StepIx ix, Explained* out) const {
  const auto found = run.details.find(ix);
  const std::string name = Quote(run.graph->StepName(ix));
  const auto add = [&](Reason reason, std::string text) -> Cause& {
    Cause& cause = out->causes.emplace_back();
    cause.reason = reason;
    cause.text = std::move(text);
    return cause;
  };
  if (found == run.details.end()) return;
  const StepDetail& detail = found->second;
  out->asked = detail.resolved && !detail.cache_key.empty();
  if (detail.resolving) {
    add(Reason::kNone, run.graph->IsGroup(ix) ? "the lists it fans out over are read"
                                              : "its inputs are looked at and the cache is asked");
  }
  if (!detail.cache_key.empty()) {
    const auto leader = flights_.LeaderOf(detail.cache_key);
    const SingleFlight::Step self{run.header.key, ix};
    if (leader.has_value() && !(*leader == self)) {
      const RunInMemory* other = Find(leader->run);
      if (other != nullptr) {
        Cause& cause = add(Reason::kWaitingForLeader, "");
        cause.run = other->header.name;
        cause.step = other->graph->StepName(leader->ix);
        cause.step_state = other->cells[leader->ix].state;
        cause.text = absl::StrCat("step ", Quote(cause.step), " of run ", Quote(cause.run), " computes the same (",
                                  Name(cause.step_state), "); its outputs will be taken");
      }
    } else if (flights_.Waits(detail.cache_key, self)) {
      add(Reason::kWaitingForLeader,
          "another step that computes the same is about to start; its outputs will be taken");
    }
  }
  if (run.row.state == RunState::kPaused) add(Reason::kRunPaused, "the run is paused: nothing of it starts");
  const OrchestratorState& orchestrator = orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]];
  if (!orchestrator.present) {
    add(Reason::kWaitingForSlot, absl::StrCat("orchestrator ", Quote(orchestrator.name), " is not in service"));
  } else if (!orchestrator.healthy) {
    add(Reason::kWaitingForSlot, absl::StrCat("orchestrator ", Quote(orchestrator.name), " cannot be reached",
                                              orchestrator.why_not.empty() ? "" : ": ", orchestrator.why_not));
  } else if (!orchestrator.breaker.MaySubmit()) {
    add(Reason::kWaitingForSlot, AdmissionWords(orchestrator)).until = orchestrator.breaker.retry_wall();
  }
  if (detail.queued && out->causes.empty()) {
    ExplainSlots(run, ix, &out->causes);
    if (out->causes.empty() && orchestrator.rate.Available(now_.mono, 1) == 0) {
      const int64_t until = now_.wall + orchestrator.rate.NextAt() - now_.mono;
      add(Reason::kWaitingForSlot,
          absl::StrCat("orchestrator ", Quote(orchestrator.name), " takes at most ",
                       static_cast<double>(orchestrator.rate.milli()) / 1000, " submissions a second"))
          .until = until;
    }
    if (out->causes.empty())
      add(Reason::kWaitingForSlot, "it is next in line, or a step before it has its slots reserved");
  }
  out->summary =
      absl::StrCat(name, " is ready and waits", out->causes.empty() ? "" : absl::StrCat(": ", out->causes[0].text));
}

void Dispatcher::ExplainLive(const RunInMemory& run, StepIx ix, Explained* out) const {
  const auto live = run.live.find(ix);
  if (live == run.live.end()) return;
  const AttemptRow& attempt = live->second.row;
  const std::string name = Quote(run.graph->StepName(ix));
  const StepOptions& options = run.graph->SpecOf(ix).options();
  const std::string where = Quote(attempt.orchestrator);
  Cause cause;
  cause.reason = run.cells[ix].reason;
  out->asked = true;
  switch (run.cells[ix].state) {
    case StepState::kSubmitting:
      cause.text =
          live->second.waits_to_resubmit
              ? absl::StrCat(
                    "orchestrator ", where, " refused it for now (", Name(cause.reason), "); it is submitted again",
                    orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]].breaker.MaySubmit()
                        ? ""
                        : absl::StrCat(". ",
                                       AdmissionWords(orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]])))
              : absl::StrCat("attempt ", attempt.number, " is being handed to orchestrator ", where,
                             cause.reason == Reason::kSubmitUnknown ? "; the answer was lost, it is looked for" : "");
      break;
    case StepState::kQueued:
      cause.text = absl::StrCat("orchestrator ", where, " has it",
                                attempt.external_id.empty() ? "" : absl::StrCat(" as ", attempt.external_id),
                                " and has not started it");
      if (const auto detail = run.details.find(ix);
          detail != run.details.end() && !detail->second.row.message.empty()) {
        absl::StrAppend(&cause.text, ": ", detail->second.row.message);
      }
      break;
    case StepState::kStopping:
      cause.text = absl::StrCat("attempt ", attempt.number, " is being stopped: ", Name(attempt.stop_reason));
      break;
    default:
      cause.text = attempt.state == AttemptState::kStoring
                       ? "its command has ended well; its outputs are being stored"
                       : absl::StrCat("attempt ", attempt.number, " runs on ", where,
                                      attempt.external_id.empty() ? "" : absl::StrCat(" as ", attempt.external_id),
                                      " since ", ClockWords(attempt.started));
      break;
  }
  if (attempt.started == 0 && options.queue_timeout_micros > 0) {
    cause.until = attempt.created + options.queue_timeout_micros;
  } else if (attempt.started > 0 && options.run_timeout_micros > 0 && attempt.state == AttemptState::kRunning) {
    cause.until = attempt.started + options.run_timeout_micros;
  }
  const OrchestratorState& orchestrator = orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]];
  if (!orchestrator.healthy) {
    absl::StrAppend(&cause.text, "; the orchestrator cannot be reached", orchestrator.why_not.empty() ? "" : ": ",
                    orchestrator.why_not);
  }
  if (cause.until > 0) absl::StrAppend(&cause.text, "; it may take until ", ClockWords(cause.until));
  out->summary = absl::StrCat(name, ": ", cause.text);
  out->causes.push_back(std::move(cause));
}

std::optional<Explained> Dispatcher::Explain(RunKey key, StepIx ix) const {
  const RunInMemory* run = Find(key);
  if (run == nullptr || ix >= run->cells.size()) return std::nullopt;
  const StepCell& cell = run->cells[ix];
  const std::string name = Quote(run->graph->StepName(ix));
  const StepFinder find = Finder(*run);
  if (IsTerminal(cell.state)) {
    StepRow row;  // its message is in the table, which is asked for the rest
    row.ix = ix;
    row.state = cell.state;
    row.reason = cell.reason;
    row.attempt = cell.attempt;
    return ExplainEnded(*run->graph, run->header.name, run->row, row, find);
  }
  Explained out;
  out.run_state = run->row.state;
  out.state = cell.state;
  out.reason = cell.reason;
  out.attempt = cell.attempt;
  switch (cell.state) {
    case StepState::kWaiting: {
      out.causes = ExplainUpstreams(*run->graph, run->header.name, ix, kOpenStates, find);
      for (Cause& cause : out.causes) cause.reason = Reason::kWaitingForInputs;
      const auto detail = run->details.find(ix);
      if (out.causes.empty() && cell.open == 0 && detail != run->details.end() && !detail->second.row.message.empty()) {
        Cause& cause = out.causes.emplace_back();  // an artifact from outside the run
        cause.reason = Reason::kWaitingForInputs;
        cause.text = absl::StrCat("it ", detail->second.row.message);
      }
      const TriggerRule rule = run->graph->SpecOf(ix).options().trigger_rule;
      absl::string_view first = out.causes.empty() ? absl::string_view() : absl::string_view(out.causes[0].text);
      const bool told = !out.causes.empty() && absl::ConsumePrefix(&first, "it waits for ");
      out.summary =
          absl::StrCat(name,
                       told                 ? " waits for "
                       : out.causes.empty() ? " waits to be looked at"
                                            : " waits: ",
                       first, out.causes.size() > 1 ? absl::StrCat(", and ", out.causes.size() - 1, " more") : "",
                       rule == TriggerRule::kAllSuccess ? "" : absl::StrCat("; its rule is ", Quote(Name(rule))));
      break;
    }
    case StepState::kReady:
      ExplainReady(*run, ix, &out);
      break;
    case StepState::kBackoff: {
      const auto detail = run->details.find(ix);
      Cause& cause = out.causes.emplace_back();
      cause.reason = Reason::kBackoffBeforeRetry;
      if (detail != run->details.end()) cause.until = detail->second.row.retry_at;
      cause.text = absl::StrCat("attempt ", cell.attempt, " ended with ", Name(cell.reason), "; the next begins at ",
                                ClockWords(cause.until));
      out.asked = true;
      out.summary = absl::StrCat(name, " waits before its next attempt: ", cause.text);
      break;
    }
    default:
      ExplainLive(*run, ix, &out);
      break;
  }
  return out;
}

std::optional<Explained> Dispatcher::Explain(RunKey key) const {
  const RunInMemory* run = Find(key);
  if (run == nullptr) return std::nullopt;
  Explained out;
  out.run_state = run->row.state;
  out.reason = run->row.reason;
  const StepFinder find = Finder(*run);
  const StepIx all = run->graph->step_count();
  const auto list = [&](uint32_t states) {
    if (out.steps.size() >= kMostCauses) return int64_t{0};
    StepsFound found = find(0, all, states, kMostCauses - out.steps.size());
    for (BriefStep& step : found.steps) out.steps.push_back(std::move(step));
    return found.total;
  };
  const int64_t failed = list(Bit(StepState::kFailed));
  const int64_t moving = list(Bit(StepState::kSubmitting) | Bit(StepState::kQueued) | Bit(StepState::kRunning) |
                              Bit(StepState::kStopping) | Bit(StepState::kBackoff));
  const int64_t ready = list(Bit(StepState::kReady));
  // Nothing of this run would ever start those that wait for an artifact of another.
  std::vector<StepIx> outside;
  int looked = 0;
  for (const auto& [ix, detail] : run->details) {
    if (++looked > kMostLooked) break;
    const auto& cell = run->cells[ix];
    if (cell.state == StepState::kWaiting && cell.open == 0 && !detail.row.message.empty()) outside.push_back(ix);
  }
  std::sort(outside.begin(), outside.end());
  for (const StepIx ix : outside) {
    if (out.steps.size() >= kMostCauses) break;
    out.steps.push_back({ix, StepState::kWaiting, Reason::kWaitingForInputs, ""});
  }
  for (BriefStep& step : out.steps) {
    if (step.state == StepState::kFailed) continue;
    const auto explained = Explain(key, step.ix);
    if (explained.has_value() && !explained->causes.empty()) step.text = explained->causes[0].text;
  }
  const auto add = [&](Reason reason, std::string text) {
    Cause& cause = out.causes.emplace_back();
    cause.reason = reason;
    cause.text = std::move(text);
  };
  if (run->row.state == RunState::kPaused) add(Reason::kRunPaused, "it is paused: no step starts");
  if (run->row.state == RunState::kHalting || run->row.state == RunState::kCancelling) {
    add(run->row.reason, run->row.message.empty() ? "it is being stopped" : run->row.message);
  }
  const auto& counts = run->row.counts;
  if (failed > 0)
    add(Reason::kStepFailed, absl::StrCat(failed, failed == 1 ? " step has failed" : " steps have failed"));
  if (moving > 0) add(Reason::kNone, absl::StrCat(moving, moving == 1 ? " step is" : " steps are", " under way"));
  if (ready > 0) {
    add(Reason::kWaitingForSlot, absl::StrCat(ready, ready == 1 ? " step is" : " steps are", " ready and waiting"));
  }
  if (!outside.empty()) {
    const std::string& first = run->details.at(outside[0]).row.message;  // `waits for artifact …`
    add(Reason::kWaitingForInputs,
        absl::StrCat(Quote(run->graph->StepName(outside[0])), " ", first,
                     outside.size() > 1 ? absl::StrCat(" (and ", outside.size() - 1, " more steps for such)") : ""));
    out.causes.back().step = run->graph->StepName(outside[0]);
    out.causes.back().step_state = StepState::kWaiting;
  }
  const int64_t waiting = counts[static_cast<size_t>(StepState::kWaiting)] - static_cast<int64_t>(outside.size());
  if (waiting > 0) {
    add(Reason::kWaitingForInputs, absl::StrCat(waiting, waiting == 1 ? " step waits" : " steps wait", " for others"));
  }
  if (run->row.deadline > 0) {
    add(Reason::kNone, absl::StrCat("its time is over at ", ClockWords(run->row.deadline)));
    out.causes.back().until = run->row.deadline;
  }
  out.summary = absl::StrCat(Quote(run->header.name), " is ", Name(run->row.state));
  for (const Cause& cause : out.causes)
    absl::StrAppend(&out.summary, &cause == &out.causes[0] ? ": " : ", ", cause.text);
  return out;
}

}  // namespace orch
