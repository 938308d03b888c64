// What must hold while a world plays, and what must have come to pass at its end.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "server/core/rules.h"
#include "tests/sim/world.h"

namespace orch::sim {
namespace {

// How long after a stop is on record its platform must have heard of it.
constexpr int64_t kStopTold = 60 * kSecond;
// How long a step may wait for slots before the tables say so.
constexpr int64_t kReadyShown = kSecond / 2;

}  // namespace

void World::CheckNow() {
  since_check_ = 0;
  const absl::Status status = daemon_->core().CheckInvariants();
  if (!status.ok()) return fate_.Break(std::string(status.message()));
  for (const auto& [pool, used] : daemon_->core().PoolUse()) {
    int64_t limit = INT64_MAX;
    if (pool == "o/cpu" && plan_.cpu_millis > 0) limit = plan_.cpu_millis;
    if (pool == "o/parallel" && plan_.parallel > 0) limit = plan_.parallel;
    if (pool == "pool/db") limit = 1;
    if (used > limit) fate_.Break(pool, ": ", used, " of ", limit, " slots in use");
  }
  // What two steps would compute alike, one of them computes.
  std::map<std::string, std::pair<RunKey, StepIx>> computing;
  for (const auto& [key, stored] : tables_.runs()) {
    if (IsTerminal(stored.row.state)) continue;
    for (const auto& attempts : stored.attempts) {
      if (attempts.empty() || IsTerminal(attempts.back().state) || attempts.back().cache_key.empty()) continue;
      const AttemptRow& row = attempts.back();
      const auto [other, fresh] = computing.emplace(row.cache_key, std::make_pair(key, row.ix));
      if (!fresh) {
        return fate_.Break("step ", row.ix, " of run ", key, " computes what step ", other->second.second, " of run ",
                           other->second.first, " computes");
      }
    }
  }
  // A step that waits for slots says so.
  for (const auto& [key, stored] : tables_.runs()) {
    const RunInMemory* run = IsTerminal(stored.row.state) ? nullptr : daemon_->core().Find(key);
    if (run == nullptr) continue;
    for (const auto& [ix, detail] : run->details) {
      if (run->cells[ix].state != StepState::kReady || !detail.queued) continue;
      if (fate_.Now().mono - detail.entry.ready_mono < kReadyShown || stored.steps[ix].state == StepState::kReady)
        continue;
      return fate_.Break("step ", ix, " of run ", key, " waits for slots, and on record it is ",
                         Name(stored.steps[ix].state));
    }
  }
}

// A job comes to its natural end: if somebody wanted it stopped, the platform must have heard of it by now.
void World::CheckStops(uint32_t number) {
  const Platform::Job& job = platform_->job(number);
  if (job.ended || job.told_to_stop || daemon_ == nullptr) return;
  const auto stop = ledger_.stops.find(job.key);
  if (stop == ledger_.stops.end()) return;
  const AttemptRow* row = tables_.FindAttempt(KeyOf(job.run), job.ix, job.attempt);
  if (row == nullptr || !row->stopping || IsTerminal(row->state)) return;
  if (fate_.mono() - std::max(stop->second, daemon_->born()) > kStopTold) {
    fate_.Break("step ", job.ix, " of run ", job.run, " shall stop and nobody told its platform");
  }
}

void World::CheckEnd() {
  const auto broken = [&](const auto&... parts) { fate_.Break(parts...); };
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (!clients_[i].acknowledged) return broken("run ", i, " was never accepted");
  }
  if (daemon_ == nullptr) return broken("nobody started the daemon again");
  while (fate_.broken().empty() && std::any_of(watchers_.begin(), watchers_.end(), [&](const Watcher& w) {
           return w.after < daemon_->hub().last_sequence();
         })) {
    Watch();
  }
  for (const auto& [key, run] : tables_.runs()) {
    if (IsTerminal(run.row.state)) continue;
    std::string waits;
    for (StepIx ix = 0; ix < run.steps.size() && waits.size() < 200; ++ix) {
      if (!IsTerminal(run.steps[ix].state)) absl::StrAppend(&waits, " ", ix, ":", Name(run.steps[ix].state));
    }
    return broken("run ", key, " never ends: it is ", Name(run.row.state), ", open are", waits);
  }
  CheckNow();
  if (daemon_->core().live_runs() > 0) return broken("a run that has ended is kept in memory");
  if (!daemon_->core().PoolUse().empty()) {
    return broken("slots do not come back: ", daemon_->core().PoolUse().begin()->first);
  }
  if (daemon_->core().hooks().size() > 0) return broken("a hook never ends");
  for (const HookPlatform::Job& job : hooks_->jobs()) {
    if (!job.ended || !job.released) return broken("the job of hook ", job.id, " is left");
  }
  if (daemon_->outbox().HasAttempts(kHookOrchestrator)) return broken("the outbox still knows a hook");
  if (daemon_->outbox().HasAttempts("o")) return broken("the outbox still knows an attempt");
  for (const Platform::Job& job : platform_->jobs()) {
    if (job.made && !job.ended) return broken("a job of run ", job.run, " step ", job.ix, " is left running");
    if (job.made && !job.released && !job.forgotten) {
      return broken("nobody released the job of run ", job.run, " step ", job.ix, " attempt ", job.attempt);
    }
  }
  if (const std::string differs = tables_.CompareWithEvents(); !differs.empty()) return broken(differs);
  std::vector<int64_t> events(clients_.size() + 1);
  events[0] = static_cast<int64_t>(tables_.events().size());
  for (uint32_t i = 0; i < clients_.size(); ++i) {
    const RunKey key = KeyOf(i);
    events[i + 1] = std::count_if(tables_.events().begin(), tables_.events().end(),
                                  [&](const EventRow& event) { return event.run == key; });
  }
  for (const Watcher& watcher : watchers_) {
    if (watcher.seen == events[watcher.run]) continue;
    return broken("a watcher saw ", watcher.seen, " of ", events[watcher.run], " events of run ", watcher.run);
  }
  for (const Client& client : clients_) {
    const testing::StoreModel::Run* run = tables_.FindById(client.event.header.id);
    if (run == nullptr && tables_.WasDeleted(client.key)) continue;
    CheckSteps(*run, client);
    CheckHooks(*run);
    if (client.plain) CheckJudgement(*run);
  }
}

// Each step has the attempts and the outputs that its state says, and the run's end follows from them.
void World::CheckSteps(const testing::StoreModel::Run& run, const Client& client) {
  std::vector<std::vector<const ArtifactRow*>> landed(run.steps.size());
  for (const size_t place : run.artifacts) {
    const ArtifactRow& artifact = tables_.artifacts()[place];
    landed[artifact.ix].push_back(&artifact);
  }
  bool failed = false;
  for (StepIx ix = 0; ix < run.steps.size(); ++ix) {
    const StepRow& step = run.steps[ix];
    const auto broken = [&](const auto&... parts) {
      fate_.Break("step ", step.name, " of run ", run.header.key, " is ", Name(step.state), ": ", parts...);
    };
    if (!IsTerminal(step.state)) return broken("its run has ended");
    failed = failed || step.state == StepState::kFailed;
    if (!run.graph->Has(ix)) continue;  // what it was is not known any more
    uint32_t succeeded = 0;
    for (const AttemptRow& attempt : run.attempts[ix]) {
      if (!IsTerminal(attempt.state)) return broken("attempt ", attempt.number, " is open");
      if (attempt.number <= step.earlier_attempts) continue;  // of a generation before
      if (attempt.state == AttemptState::kSucceeded && std::exchange(succeeded, attempt.number) != 0) {
        return broken("two attempts succeeded");
      }
    }
    if (run.graph->IsGroup(ix)) {
      const bool expanded = run.graph->step(run.graph->TemplateOf(ix)).expanded;
      // In a later generation its list may not have come.
      if (!expanded && step.state == StepState::kSucceeded) return broken("it has no instances");
      if (expanded && run.row.generation == 1 && step.state != StepState::kSucceeded) return broken("it has instances");
      if (!run.attempts[ix].empty()) return broken("a group has no attempts");
      continue;
    }
    if ((step.state == StepState::kSucceeded) != (succeeded != 0)) return broken("succeeded attempt: ", succeeded);
    for (const ArtifactRow* artifact : landed[ix]) {
      const AttemptRow* attempt = tables_.FindAttempt(run.header.key, ix, artifact->attempt);
      const std::string& key = attempt != nullptr ? attempt->key : "hit";
      if (artifact->digest.compare(0, key.size(), key) != 0) return broken("an output of another attempt landed");
      if (artifact->early || (attempt == nullptr && (step.state == StepState::kCached || run.row.generation > 1)))
        continue;
      if (artifact->attempt <= step.earlier_attempts) continue;
      if (artifact->attempt != succeeded) return broken("an output of an attempt that failed landed");
    }
    if (!IsOk(step.state)) continue;
    for (const OutputSpec& output : run.graph->SpecOf(ix).outputs) {
      const auto count = std::count_if(landed[ix].begin(), landed[ix].end(), [&](const ArtifactRow* artifact) {
        return artifact->output == output.name && artifact->attempt == succeeded;
      });
      if (count != 1 && (succeeded != 0 || count == 0 || run.row.generation == 1))
        return broken("output ", output.name, " landed ", count, " times");
    }
    if (step.state == StepState::kSucceeded) {
      const Platform::Job* job = platform_->Find(run.attempts[ix][succeeded - 1].key);
      if (job == nullptr || !job->made || !job->ended || job->end.reason != Reason::kNone) {
        return broken("its job did not end well");
      }
    }
  }
  if (client.cancelled == run.row.generation && run.row.state != RunState::kCancelled) {
    fate_.Break("run ", run.header.key, " was cancelled and is ", Name(run.row.state));
  }
  if (client.plain && run.row.state != (failed ? RunState::kFailed : RunState::kSucceeded)) {
    fate_.Break("the end of run ", run.header.key, " does not follow from its steps: ", Name(run.row.state));
  }
}

// Each end that has a hook had it, once in each generation, and no other had one.
void World::CheckHooks(const testing::StoreModel::Run& run) {
  std::map<int64_t, const HookRow*> newest;
  std::set<std::pair<int64_t, int>> seen;
  for (const auto& [id, row] : tables_.hooks()) {
    if (row.run != run.header.key) continue;
    if (!seen.emplace(row.ix, row.generation).second) return fate_.Break("two hooks of step ", row.ix);
    const HookRow*& latest = newest[row.ix];
    if (latest == nullptr || latest->generation < row.generation) latest = &row;
    if (!IsTerminal(row.state)) return fate_.Break("hook ", id, " is on record as ", Name(row.state));
    if (row.state != HookState::kSucceeded) continue;
    const bool ran = std::any_of(hooks_->jobs().begin(), hooks_->jobs().end(), [hook = row.id](const auto& job) {
      return job.id == hook && job.end.reason == Reason::kNone;
    });
    if (!ran) return fate_.Break("hook ", id, " succeeded and never ran");
  }
  const auto check = [&](int64_t ix, const Hooks& hooks, bool ok, bool failed) {
    const bool wanted = (ok && !hooks.on_success.empty()) || (failed && !hooks.on_failure.empty());
    const auto row = newest.find(ix);
    // What ended in an earlier generation had its hook then.
    const bool now = row != newest.end() && row->second->generation == run.row.generation;
    // By a pipeline that may have said something else of it.
    if (!now && ix >= 0 && run.header.pipeline_id != 0) return;
    if (wanted && row == newest.end()) fate_.Break("run ", run.header.key, " step ", ix, " has had no hook");
    if (!wanted && now) fate_.Break("run ", run.header.key, " step ", ix, " has had a hook");
    if (wanted && row != newest.end() && row->second->on_failure != failed) {
      fate_.Break("run ", run.header.key, " step ", ix, " has had the wrong hook");
    }
  };
  check(-1, run.graph->spec().hooks, run.row.state == RunState::kSucceeded, run.row.state == RunState::kFailed);
  for (StepIx ix = 0; ix < run.steps.size(); ++ix) {
    const StepState state = run.steps[ix].state;
    const bool group = run.graph->IsGroup(ix);
    check(ix, run.graph->SpecOf(ix).options().hooks, IsOk(state) && !group, state == StepState::kFailed);
  }
}

// Each step was judged by its upstreams' ends and nothing else.
void World::CheckJudgement(const testing::StoreModel::Run& run) {
  const Graph& graph = *run.graph;
  std::vector<uint8_t> seen(graph.step_count(), 0);
  std::vector<bool> early(graph.step_count(), false);
  for (const StepTemplate& producer : graph.templates()) {
    for (const Edge& edge : producer.edges) {
      const StepTemplate& consumer = graph.templates()[edge.consumer];
      uint8_t all = producer.count == 0 && !producer.at_run_time() ? kSeenOk : 0;
      if (producer.at_run_time() && (producer.count == 0 || edge.kind == EdgeKind::kGroup)) {
        all = OutcomeOf(run.steps[producer.group].state, run.steps[producer.group].reason);
      }
      if (edge.kind == EdgeKind::kGroup) {
        seen[consumer.group] |= all;
        continue;
      }
      for (uint32_t p = 0; p < producer.count; ++p) {
        all |= OutcomeOf(run.steps[producer.at(p)].state, run.steps[producer.at(p)].reason);
      }
      if (edge.to_group) {
        if (edge.kind == EdgeKind::kIndex) {
          const StepRow& row = run.steps[producer.at(edge.index)];
          all = OutcomeOf(row.state, row.reason);
        }
        seen[consumer.group] |= all;
        continue;
      }
      if (edge.kind == EdgeKind::kItem && edge.item_offsets.empty()) continue;  // it has no instances
      for (uint32_t c = 0; c < consumer.count; ++c) {
        if (edge.early) early[consumer.at(c)] = true;
        if (edge.kind == EdgeKind::kAll || producer.count == 0) seen[consumer.at(c)] |= all;
      }
      for (uint32_t p = 0; p < producer.count && edge.kind != EdgeKind::kAll; ++p) {
        const StepRow& row = run.steps[producer.at(p)];
        const uint8_t outcome = OutcomeOf(row.state, row.reason);
        if (edge.kind == EdgeKind::kIndex && p == edge.index) {
          for (uint32_t c = 0; c < consumer.count; ++c) seen[consumer.at(c)] |= outcome;
        } else if (edge.kind == EdgeKind::kItem) {
          for (uint32_t k = edge.item_offsets[p]; k < edge.item_offsets[p + 1]; ++k) {
            seen[consumer.at(edge.item_consumers[k])] |= outcome;
          }
        }
      }
    }
  }
  for (StepIx ix = 0; ix < graph.step_count(); ++ix) {
    if (early[ix]) continue;
    const StepOptions& options = graph.SpecOf(ix).options();
    const Reason unmet = JudgeTrigger(graph.IsGroup(ix) ? TriggerRule::kAllSuccess : options.trigger_rule, seen[ix]);
    const StepRow& row = run.steps[ix];
    const StepTemplate& of = graph.step(graph.TemplateOf(ix));
    if (!of.Has(ix) && (of.removed || !of.at_run_time() || of.expanded)) {
      if (IsOk(row.state) || row.reason == Reason::kStepRemoved) continue;
      return fate_.Break("step ", row.name, " has been removed and is ", Name(row.state));
    }
    if (of.at_run_time() && of.group != ix && run.steps[of.group].state != StepState::kSucceeded) {
      if (row.state != StepState::kSkipped && row.state != StepState::kCancelled)
        return fate_.Break("step ", row.name, " is there without its group");
      continue;
    }
    if (unmet == Reason::kNone && !options.when.empty() && row.reason == Reason::kWhenFalse) continue;
    const bool skipped = row.state == StepState::kSkipped;
    if (skipped != (unmet != Reason::kNone) || (skipped && row.reason != unmet)) {
      return fate_.Break("step ", row.name, " is ", Name(row.state), " ", Name(row.reason), ", its upstreams say ",
                         Name(unmet));
    }
  }
}

}  // namespace orch::sim
