// What concerns fan-outs made at run time: their groups, and the instances that come of them.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/core/dispatcher.h"
#include "server/core/fanout.h"

namespace orch {

// The lists have landed, or never will.
void Dispatcher::JudgeGroup(RunInMemory& run, StepIx ix) {
  // Without its list there is nothing to fan out over, whatever its instances' trigger rule.
  const Reason unmet = JudgeTrigger(TriggerRule::kAllSuccess, run.cells[ix].seen);
  if (unmet != Reason::kNone) {
    EndStep(run, ix, StepEvent::kUpstreamsUnmet, StepState::kSkipped, unmet, UnmetMessage(run, ix, unmet));
    return;
  }
  SetStep(run, ix, StepEvent::kUpstreamsMet, StepState::kReady, Reason::kNone, "");
  StepDetail& detail = Detail(run, ix);
  detail.row.ready = now_.wall;
  detail.logged = false;
  Offer(run, ix);
}

void Dispatcher::AskToFanOut(RunInMemory& run, StepIx ix) {
  Detail(run, ix).resolving = true;
  const StepTemplate& step = run.graph->step(run.graph->TemplateOf(ix));
  Intent& intent = out_.intents.emplace_back();
  intent.kind = Intent::Kind::kResolveFanout;
  intent.ref = {run.header.key, ix, 0};
  intent.generation = run.row.generation;
  for (const std::optional<InputBinding>& list : step.lists) {
    std::vector<ArtifactId>& ids = intent.lists.emplace_back();
    if (!list) continue;
    const StepTemplate& producer = run.graph->step(list->producer);
    const bool all = list->kind == EdgeKind::kAll;
    const uint32_t end = all ? producer.count : list->index + 1;
    for (uint32_t i = all ? 0 : list->index; i < end; ++i) {
      ids.push_back(run.artifacts[producer.output_base + i * producer.outputs + list->output]);
    }
  }
}

absl::Status Dispatcher::On(FanoutResolved& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr || run->row.generation != event.generation || run->cells[event.ix].state != StepState::kReady ||
      !Detail(*run, event.ix).resolving) {
    ++late_events_;
    return absl::OkStatus();
  }
  // A run that stops is swept: the sweep ends the group too, and would not come to new instances.
  if (run->row.state != RunState::kRunning && run->row.state != RunState::kPaused) return absl::OkStatus();
  Detail(*run, event.ix).resolving = false;
  if (event.failure != Reason::kNone) {
    EndStep(*run, event.ix, StepEvent::kResolveFailed, StepState::kFailed, event.failure, std::move(event.message));
    return absl::OkStatus();
  }
  // Its items were counted against the run as it was when they were read; another fan-out may have come since.
  const auto width = static_cast<int64_t>(event.fanout.items->size());
  const absl::Status room = CheckRoom(*run->graph, event.fanout.step, width, policy_.limits);
  if (!room.ok()) {
    EndStep(*run, event.ix, StepEvent::kResolveFailed, StepState::kFailed, Reason::kFanoutInvalid,
            std::string(room.message()));
    return absl::OkStatus();
  }
  FanoutRow& row = out_.batch.fanouts.emplace_back();
  row.run = event.run;
  row.step = event.fanout.step;
  row.first = run->graph->step_count();
  row.items = EncodeItems(*event.fanout.items);
  const uint32_t t = event.fanout.step;
  run->graph = run->graph->With(std::move(event.fanout));
  out_.graphs.emplace_back(event.run, run->graph);
  const uint32_t count = run->graph->step(t).count;
  Expand(*run, t);
  EndStep(*run, event.ix, StepEvent::kFannedOut, StepState::kSucceeded, Reason::kNone,
          count == 0 ? std::string("the list is empty")
                     : absl::StrCat("fanned out into ", count, count == 1 ? " instance" : " instances"));
  return absl::OkStatus();
}

// Those of an earlier generation wait for a list that will not come.
void Dispatcher::SkipInstances(RunInMemory& run, StepIx group) {
  const StepTemplate& step = run.graph->step(run.graph->TemplateOf(group));
  for (uint32_t i = 0; i < step.numbered(); ++i) {
    if (run.cells[step.at(i)].state == StepState::kWaiting) SkipInstance(run, step.at(i));
  }
}

void Dispatcher::SkipInstance(RunInMemory& run, StepIx ix) {
  const StepIx group = run.graph->step(run.graph->TemplateOf(ix)).group;
  const StepCell& cell = run.cells[group];
  const bool bad = OutcomeOf(cell.state, cell.reason) == kSeenBad;
  EndStep(run, ix, StepEvent::kUpstreamsUnmet, StepState::kSkipped,
          bad ? Reason::kUpstreamFailed : Reason::kUpstreamSkipped,
          absl::StrCat("`", run.graph->StepName(group), "` is ", Name(cell.state)));
}

// The instances are WAITING, with what has come to them already.
void Dispatcher::Expand(RunInMemory& run, uint32_t t) {
  const Graph& graph = *run.graph;
  const StepTemplate& step = graph.step(t);
  Unexpanded before;
  if (const auto found = run.unexpanded.find(t); found != run.unexpanded.end()) {
    before = found->second;
    run.unexpanded.erase(found);
  }
  CHECK(before.closed <= step.upstreams);
  const auto fresh = static_cast<int64_t>(graph.step_count() - run.cells.size());
  run.cells.resize(graph.step_count());
  run.artifacts.resize(graph.output_count());
  run.open_instances[t] += step.count;
  run.open_steps += fresh;
  run.row.counts[static_cast<size_t>(StepState::kWaiting)] += fresh;
  for (uint32_t i = 0; i < step.count; ++i) {
    StepCell& cell = run.cells[step.at(i)];
    cell.open = step.upstreams - before.closed;
    cell.seen = before.seen;
    // It had its number from an earlier generation, and has been skipped since.
    if (IsTerminal(cell.state)) ended_.emplace_back(run.header.key, step.at(i));
  }
  for (uint32_t i = step.count; i < step.numbered(); ++i) {
    if (IsTerminal(run.cells[step.at(i)].state)) continue;
    RemoveStep(run, step.at(i), "its fan-out has fewer instances now");
  }
  std::set<uint32_t> producers;  // one edge for each, however many inputs come from it
  for (const InputBinding& input : step.inputs) {
    if (input.kind == EdgeKind::kItem) producers.insert(input.producer);
  }
  for (const uint32_t p : producers) {
    const StepTemplate& producer = graph.step(p);
    for (const Edge& edge : producer.edges) {
      if (edge.consumer != t || edge.kind != EdgeKind::kItem) continue;
      for (uint32_t i = 0; i < producer.count; ++i) {
        const StepCell& cell = run.cells[producer.at(i)];
        if (cell.told) CloseFrom(run, edge, producer.at(i), OutcomeOf(cell.state, cell.reason));
      }
    }
  }
  step.ForEachRange(
      [&](StepRange range) { AddSweep(Sweep::Kind::kOpenRoots, run, range.first, range.first + range.count, 0); });
}

}  // namespace orch
