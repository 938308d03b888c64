// The way back from the store: the same facts lead to the same state, without a word to anybody.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/core/dispatcher.h"
#include "server/core/fanout.h"
#include "server/core/reopening.h"

namespace orch {

// What is on record of the run, and nothing yet of what follows from it.
RunInMemory& Dispatcher::Adopt(StoredRun stored) {
  auto owned = std::make_unique<RunInMemory>();
  RunInMemory& run = *owned;
  run.header = std::move(stored.header);
  run.row = std::move(stored.row);
  run.graph = std::move(stored.graph);
  AdoptGraph(run);
  runs_.emplace(run.header.key, std::move(owned));
  std::unordered_map<StepIx, uint32_t> earlier;  // attempts of earlier generations
  for (StepRow& row : stored.steps) {
    StepCell& cell = run.cells[row.ix];
    --run.row.counts[static_cast<size_t>(cell.state)];
    ++run.row.counts[static_cast<size_t>(row.state)];
    cell.state = row.state;
    cell.reason = row.reason;
    cell.attempt = row.attempt;
    if (row.earlier_attempts > 0) earlier[row.ix] = row.earlier_attempts;
    if (row.state == StepState::kFailed) run.any_failed = true;
    if (IsTerminal(row.state)) {
      --run.open_steps;
      continue;
    }
    StepDetail& detail = run.details[row.ix];
    detail.row = std::move(row);
    detail.logged = true;
  }
  for (const ArtifactRow& artifact : stored.artifacts) {
    const auto before = earlier.find(artifact.ix);
    const auto place =
        CountingSlot(*run.graph, artifact, run.cells[artifact.ix].state, before == earlier.end() ? 0 : before->second);
    if (!place) continue;
    ArtifactId& slot = run.artifacts[*place];
    slot = std::max(slot, artifact.id);
    if (artifact.early) {
      run.early_closed.insert({artifact.ix, *place - run.graph->OutputSlot(artifact.ix, 0)});
    }
  }
  return run;
}

// Who reads what was published early need not wait for its producer.
void Dispatcher::CloseEarly(RunInMemory& run) {
  for (const auto& [producer, output] : run.early_closed) {
    for (const Edge& edge : run.graph->templates()[run.graph->TemplateOf(producer)].edges) {
      if (edge.early && edge.output == output) CloseFrom(run, edge, producer, kSeenOk);
    }
  }
}

void Dispatcher::Restore(StoredRun stored, Now now) {
  now_ = now;
  std::vector<AttemptRow> attempts = std::move(stored.attempts);
  const std::vector<ArtifactRow> artifacts = stored.artifacts;
  stored.graph = WithoutOpenFanouts(std::move(stored.graph), stored.steps);
  RunInMemory& run = Adopt(std::move(stored));
  const RunKey key = run.header.key;
  for (AttemptRow& row : attempts) {
    StepCell& cell = run.cells[row.ix];
    if (IsTerminal(cell.state)) continue;
    if (IsTerminal(row.state)) {
      StepDetail& detail = Detail(run, row.ix);
      if (row.state == AttemptState::kCancelled || row.number <= detail.row.earlier_attempts) continue;
      ++(row.platform_failure ? detail.budget.platform : detail.budget.charged);
      continue;
    }
    LiveAttempt& attempt = run.live[row.ix];
    // One that was STORING gave its slots back; its end comes again from the platform and its outputs are stored again.
    attempt.holds_slots = row.state != AttemptState::kStoring;
    attempt.row = std::move(row);
    Detail(run, attempt.row.ix).external = attempt.row.external;
    if (ORCH_PLANTED("start_twice") && attempt.row.state == AttemptState::kSubmitting) {
      attempt.row.key = AttemptKey(policy_.instance + "again", run.header.id, attempt.row.ix, attempt.row.number);
    }
    ++live_attempts_;
    if (!attempt.row.cache_key.empty()) (void)flights_.Lead(attempt.row.cache_key, {key, attempt.row.ix});
    if (attempt.holds_slots) {
      const uint32_t t = run.graph->TemplateOf(attempt.row.ix);
      pools_.Take(ready_.demand(run.lines[t]));
      ++orchestrators_[run.orchestrators[t]].busy;
    }
  }
  for (const ArtifactRow& artifact : artifacts) {
    if (!artifact.early) continue;
    const auto live = run.live.find(artifact.ix);
    if (live == run.live.end() || live->second.row.number != artifact.attempt) continue;
    const std::vector<OutputSpec>& outputs = run.graph->SpecOf(artifact.ix).outputs;
    for (uint32_t o = 0; o < outputs.size(); ++o) {
      if (outputs[o].name == artifact.output) live->second.published.insert(o);
    }
  }
  CloseEarly(run);
  for (StepIx ix = 0; ix < run.cells.size(); ++ix) {
    if (IsTerminal(run.cells[ix].state) && run.graph->Has(ix)) ended_.emplace_back(key, ix);
  }

  std::vector<StepIx> open;
  for (const auto& [ix, detail] : run.details) open.push_back(ix);
  std::sort(open.begin(), open.end());
  for (const StepIx ix : open) {
    StepDetail& detail = run.details.at(ix);
    const StepState state = run.cells[ix].state;
    const StepOptions& options = run.graph->SpecOf(ix).options();
    const uint32_t number = run.cells[ix].attempt;
    const auto live = run.live.find(ix);
    if (state == StepState::kReady) {
      Offer(run, ix, ReadySince(run, ix));
    } else if (state == StepState::kBackoff) {
      if (ORCH_PLANTED("forget_retry_timer")) continue;
      timers_.push({Timer::Kind::kRetry, detail.row.retry_at_mono, key, ix, number});
    } else if (live != run.live.end()) {
      const AttemptRow& row = live->second.row;
      if (row.started_mono > 0 && options.run_timeout_micros > 0) {
        timers_.push({Timer::Kind::kRun, row.started_mono + options.run_timeout_micros, key, ix, number});
      } else if (row.started_mono == 0 && options.queue_timeout_micros > 0) {
        timers_.push({Timer::Kind::kQueue, row.created_mono + options.queue_timeout_micros, key, ix, number});
      }
      if (state == StepState::kRunning) StartHeart(run, ix, live->second);
      if (state == StepState::kStopping) {
        AddIntent(Intent::Kind::kCancelAttempt, run, ix, live->second);
        out_.intents.back().forced = run.row.cancel_forced;
        timers_.push({Timer::Kind::kStop, now_.mono + policy_.grace_micros, key, ix, number});
      }
    }
  }
  if (run.row.deadline_mono > 0) timers_.push({Timer::Kind::kDeadline, run.row.deadline_mono, key, 0, 0});
  if (run.row.state == RunState::kHalting || run.row.state == RunState::kCancelling) StopRest(run);
  AddSweep(Sweep::Kind::kOpenRoots, run, 0, run.graph->step_count(), 0);
  if (run.open_steps == 0) finished_runs_.push_back(key);
  pass_needed_ = true;
}

std::vector<std::pair<AttemptRow, std::string>> Dispatcher::LiveAttempts() const {
  std::vector<std::pair<AttemptRow, std::string>> out;
  for (const auto& [key, run] : runs_) {
    std::vector<StepIx> steps;
    for (const auto& [ix, attempt] : run->live) steps.push_back(ix);
    std::sort(steps.begin(), steps.end());
    for (const StepIx ix : steps) out.emplace_back(run->live.at(ix).row, run->graph->StepName(ix));
  }
  return out;
}

}  // namespace orch
