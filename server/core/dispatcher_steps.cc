// What concerns single steps: readiness, ends, and telling dependants.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/core/compile.h"
#include "server/core/dispatcher.h"
#include "server/core/upstreams.h"

namespace orch {
namespace {

// Fan-outs up to this width are told at once, wider ones in slices.
constexpr uint32_t kInlineWidth = 64;
// To name the upstream that kept a step from running; beyond it nobody is named.
constexpr int kCulpritsLookedAt = 256;

}  // namespace

StepDetail& Dispatcher::Detail(RunInMemory& run, StepIx ix) {
  const auto [it, fresh] = run.details.try_emplace(ix);
  StepDetail& detail = it->second;
  if (fresh) {
    detail.row.run = run.header.key;
    detail.row.ix = ix;
    detail.row.name = run.graph->StepName(ix);
    detail.row.attempt = run.cells[ix].attempt;
    detail.row.state = run.cells[ix].state;
    detail.row.reason = run.cells[ix].reason;
    detail.row.orchestrator = orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]].name;
  }
  return detail;
}

void Dispatcher::MarkDirty(RunInMemory& run, StepIx ix) {
  StepCell& cell = run.cells[ix];
  if (cell.dirty) return;
  cell.dirty = true;
  dirty_steps_.emplace_back(run.header.key, ix);
}

void Dispatcher::SetStep(RunInMemory& run, StepIx ix, StepEvent event, StepState to, Reason reason,
                         std::string message) {
  StepCell& cell = run.cells[ix];
  CHECK(IsAllowed(cell.state, event, to));
  const bool changed = cell.state != to;
  --run.row.counts[static_cast<size_t>(cell.state)];
  ++run.row.counts[static_cast<size_t>(to)];
  cell.state = to;
  cell.reason = reason;
  StepDetail& detail = Detail(run, ix);
  detail.row.state = to;
  detail.row.reason = reason;
  detail.row.message = message;
  detail.row.attempt = cell.attempt;
  if (to == StepState::kReady) {  // written only if it lasts
    unshown_.push_back({now_.mono + policy_.ready_shown_after_micros, run.header.key, ix});
    return;
  }
  MarkDirty(run, ix);
  if (changed) LogStep(run, ix, std::move(message));
}

void Dispatcher::EndStep(RunInMemory& run, StepIx ix, StepEvent event, StepState to, Reason reason,
                         std::string message) {
  Dequeue(run, ix);
  LeaveFlight(run, ix);
  AwaitNoMore(run, ix);
  StepRow& row = Detail(run, ix).row;
  row.ended = std::max(now_.wall, row.started);
  SetStep(run, ix, event, to, reason, std::move(message));
  AddStepHook(run, ix);
  ended_.emplace_back(run.header.key, ix);
  if (--run.open_steps == 0) finished_runs_.push_back(run.header.key);
  if (to == StepState::kFailed) OnStepFailed(run, ix);
  if (to != StepState::kSucceeded && run.graph->IsGroup(ix)) SkipInstances(run, ix);
}

void Dispatcher::DrainEnded(int limit) {
  for (; limit > 0 && !ended_.empty(); --limit) {
    const auto [key, ix] = ended_.front();
    ended_.pop_front();
    if (RunInMemory* run = FindRun(key)) Propagate(*run, ix);
  }
}

void Dispatcher::Propagate(RunInMemory& run, StepIx ix) {
  const uint32_t t = run.graph->TemplateOf(ix);
  const StepTemplate& step = run.graph->templates()[t];
  const bool group = step.group == ix;
  if (run.cells[ix].told || (!step.Has(ix) && !ORCH_PLANTED("count_removed"))) return;
  const uint8_t outcome = OutcomeOf(run.cells[ix].state, run.cells[ix].reason);
  run.cells[ix].told = true;
  // A group that has instances is judged by them.
  if (!group || step.count == 0) run.seen[t] |= outcome;
  const bool group_closed = --run.open_instances[t] == 0;
  for (const Edge& edge : step.edges) {
    if (edge.kind == EdgeKind::kGroup) {
      if (group) CloseAll(run, edge, outcome);
      continue;
    }
    if (edge.early && run.early_closed.count({ix, edge.output}) > 0) continue;
    if (edge.kind == EdgeKind::kAll && !edge.early) {
      if (group_closed) CloseAll(run, edge, run.seen[t]);
    } else if (!group) {
      CloseFrom(run, edge, ix, outcome);
    }
  }
  if (!group && outcome != kSeenOk && !run.early_closed.empty()) SkipEarlyConsumers(run, ix);
}

void Dispatcher::CloseFrom(RunInMemory& run, const Edge& edge, StepIx producer, uint8_t seen) {
  const StepTemplate& consumer = run.graph->templates()[edge.consumer];
  const uint32_t instance = run.graph->InstanceOf(producer);
  switch (edge.kind) {
    case EdgeKind::kAll:
      CloseAll(run, edge, seen);
      return;
    case EdgeKind::kIndex:
      if (edge.index == instance) CloseAll(run, edge, seen);
      return;
    case EdgeKind::kGroup:
      return;
    case EdgeKind::kItem:
      if (edge.item_offsets.empty()) return;  // the consumer has no instances yet
      for (uint32_t k = edge.item_offsets[instance]; k < edge.item_offsets[instance + 1]; ++k) {
        CloseOne(run, consumer.at(edge.item_consumers[k]), seen);
      }
      return;
  }
}

void Dispatcher::CloseRange(RunInMemory& run, StepIx first, uint32_t count, uint8_t seen) {
  if (count > kInlineWidth) {
    AddSweep(Sweep::Kind::kCloseEdge, run, first, first + count, seen);
    return;
  }
  for (uint32_t i = 0; i < count; ++i) CloseOne(run, first + i, seen);
}

// To the consumer's group, or to all its instances, which may not be there yet.
void Dispatcher::CloseAll(RunInMemory& run, const Edge& edge, uint8_t seen) {
  const StepTemplate& consumer = run.graph->step(edge.consumer);
  if (edge.to_group) {
    CloseOne(run, consumer.group, seen);
  } else if (consumer.at_run_time() && !consumer.expanded) {
    Unexpanded& later = run.unexpanded[edge.consumer];
    ++later.closed;
    later.seen |= seen;
  } else {
    consumer.ForEachRange([&](StepRange range) { CloseRange(run, range.first, range.count, seen); });
  }
}

void Dispatcher::CloseOne(RunInMemory& run, StepIx ix, uint8_t seen) {
  StepCell& cell = run.cells[ix];
  CHECK(cell.open > 0);
  if (ORCH_PLANTED("lose_wakeup") && cell.open > 1 && ix % 7 == 3) return;
  cell.seen |= seen;
  if (--cell.open == 0) Judge(run, ix);
}

// All upstreams of the step have ended, or published what it reads early.
void Dispatcher::Judge(RunInMemory& run, StepIx ix) {
  if (run.cells[ix].state != StepState::kWaiting) return;
  // A run that stops is swept: the sweep ends this step too.
  if (run.row.state != RunState::kRunning && run.row.state != RunState::kPaused) return;
  const StepTemplate& step = run.graph->step(run.graph->TemplateOf(ix));
  if (step.group == ix) return JudgeGroup(run, ix);
  // In a later generation it had its number before its list.
  if (!step.Has(ix) || (step.at_run_time() && !IsTerminal(run.cells[step.group].state))) return;
  const Reason unmet = JudgeTrigger(run.graph->SpecOf(ix).options().trigger_rule, run.cells[ix].seen);
  if (unmet != Reason::kNone) {
    EndStep(run, ix, StepEvent::kUpstreamsUnmet, StepState::kSkipped, unmet, UnmetMessage(run, ix, unmet));
    return;
  }
  BecomeReady(run, ix, true);
}

// The rule, and the first upstream that broke it.
std::string Dispatcher::UnmetMessage(const RunInMemory& run, StepIx ix, Reason unmet) const {
  const Graph& graph = *run.graph;
  const std::string rule = absl::StrCat("rule ", Name(graph.SpecOf(ix).options().trigger_rule), ": ");
  const uint8_t culprit = unmet == Reason::kUpstreamFailed    ? kSeenBad
                          : unmet == Reason::kUpstreamSkipped ? kSeenSkipped
                                                              : 0;
  if (culprit == 0) return absl::StrCat(rule, "no upstream step ended as it wants");
  std::string found;
  int looked = 0;
  const auto look = [&](StepRange range) {
    const StepIx end = range.first + range.count;
    for (StepIx up = range.first; up < end && found.empty() && looked < kCulpritsLookedAt; ++up, ++looked) {
      const StepCell& cell = run.cells[up];
      if (!IsTerminal(cell.state) || OutcomeOf(cell.state, cell.reason) != culprit) continue;
      found = absl::StrCat("`", graph.StepName(up), "` is ", Name(cell.state));
      if (cell.reason != Reason::kNone) absl::StrAppend(&found, " (", Name(cell.reason), ")");
    }
  };
  for (const Upstream& upstream : UpstreamsOf(graph, ix)) {
    for (const StepRange& range : upstream.steps) look(range);
  }
  if (graph.IsGroup(ix)) return found.empty() ? std::string("what it fans out over did not come to be") : found;
  if (found.empty()) found = culprit == kSeenBad ? "an upstream step failed" : "an upstream step was skipped";
  return rule + found;
}

void Dispatcher::BecomeReady(RunInMemory& run, StepIx ix, bool judged) {
  SetStep(run, ix, judged ? StepEvent::kUpstreamsMet : StepEvent::kRetryDue, StepState::kReady, Reason::kNone, "");
  StepDetail& detail = Detail(run, ix);
  if (detail.row.ready == 0) detail.row.ready = now_.wall;
  detail.row.retry_at = 0;
  detail.row.retry_at_mono = 0;
  detail.logged = false;
  // A cached step is looked up before each attempt: another may have computed it meanwhile.
  if (run.graph->SpecOf(ix).options().cache_enabled) detail.resolved = false;
  Offer(run, ix);
}

// A READY step asks the cache, or waits for slots; while its run is paused neither.
void Dispatcher::Offer(RunInMemory& run, StepIx ix, int64_t ready_mono) {
  if (!MayStart(run)) return;
  StepDetail& detail = Detail(run, ix);
  if (run.graph->IsGroup(ix)) {
    if (!detail.resolving) AskToFanOut(run, ix);
    return;
  }
  if (run.graph->templates()[run.graph->TemplateOf(ix)].needs_resolve && !detail.resolved) {
    if (!detail.resolving) AskToResolve(run, ix);
    return;
  }
  Enqueue(run, ix, ready_mono);
}

// Its age goes on over a restart or a pause; of one that waited out a back-off it is not on record.
int64_t Dispatcher::ReadySince(const RunInMemory& run, StepIx ix) const {
  const StepRow& row = run.details.at(ix).row;
  if (run.cells[ix].attempt != row.earlier_attempts) return now_.mono;
  return now_.mono - std::clamp<int64_t>(now_.wall - row.ready, 0, now_.mono);
}

void Dispatcher::Enqueue(RunInMemory& run, StepIx ix, int64_t ready_mono) {
  StepDetail& detail = Detail(run, ix);
  if (detail.queued) return;
  if (!MayStart(run)) return Park(run, ix);
  const uint32_t t = run.graph->TemplateOf(ix);
  const int priority = run.header.priority + run.graph->spec().steps[t].options().priority;
  const uint32_t below = run.graph->templates()[t].below;
  detail.entry = ready_.Add(run.lines[t], priority, below, run.header.key, ix, ready_mono);
  detail.queued = true;
  pass_needed_ = true;
}

void Dispatcher::Dequeue(RunInMemory& run, StepIx ix) {
  const auto found = run.details.find(ix);
  if (found == run.details.end() || !found->second.queued) return;
  ready_.Remove(run.lines[run.graph->TemplateOf(ix)], found->second.entry);
  found->second.queued = false;
}

// The producer of an early input ended badly after it had published: who has not started must not start on bytes that
// nobody stands for.
void Dispatcher::SkipEarlyConsumers(RunInMemory& run, StepIx producer) {
  const auto& templates = run.graph->templates();
  const uint32_t instance = run.graph->InstanceOf(producer);
  const auto skip = [&](StepIx ix) {
    const StepState state = run.cells[ix].state;
    if (state != StepState::kWaiting && state != StepState::kReady) return;
    EndStep(run, ix, StepEvent::kEarlyProducerFailed, StepState::kSkipped, Reason::kUpstreamFailed,
            absl::StrCat("`", run.graph->StepName(producer), "` published its input early and then failed"));
  };
  for (const Edge& edge : templates[run.graph->TemplateOf(producer)].edges) {
    if (!edge.early || run.early_closed.count({producer, edge.output}) == 0) continue;
    const StepTemplate& consumer = templates[edge.consumer];
    if (edge.kind == EdgeKind::kItem) {
      if (edge.item_offsets.empty()) continue;  // the consumer has no instances yet
      for (uint32_t k = edge.item_offsets[instance]; k < edge.item_offsets[instance + 1]; ++k) {
        skip(consumer.at(edge.item_consumers[k]));
      }
    } else if (edge.kind == EdgeKind::kAll || edge.index == instance) {
      for (uint32_t i = 0; i < consumer.count; ++i) skip(consumer.at(i));
    }
  }
}

// The run stops: this step ends if it has no live attempt.
void Dispatcher::StopStep(RunInMemory& run, StepIx ix) {
  const StepState state = run.cells[ix].state;
  const bool cancelling = run.row.state == RunState::kCancelling;
  if (ORCH_PLANTED("resurrect_terminal") && cancelling && state == StepState::kSkipped) {
    --run.row.counts[static_cast<size_t>(state)];
    ++run.row.counts[static_cast<size_t>(StepState::kCancelled)];
    run.cells[ix].state = StepState::kCancelled;
    (void)Detail(run, ix);
    MarkDirty(run, ix);
  }
  if (state != StepState::kWaiting && state != StepState::kReady && state != StepState::kBackoff) return;
  if (cancelling) {
    EndStep(run, ix, StepEvent::kCancelRequested, StepState::kCancelled, Reason::kCancelRequested, "");
  } else if (state == StepState::kBackoff) {
    const Reason reason = run.cells[ix].reason;
    EndStep(run, ix, StepEvent::kRunHalted, StepState::kFailed, reason, Detail(run, ix).row.message);
  } else {
    EndStep(run, ix, StepEvent::kRunHalted, StepState::kSkipped,
            run.row.reason == Reason::kRunDeadline ? Reason::kRunDeadline : Reason::kRunHalted, run.row.message);
  }
}

}  // namespace orch
