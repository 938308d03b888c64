#include "server/core/next_generation.h"

#include <algorithm>
#include <utility>

#include "server/core/definition.h"
#include "server/core/fanout.h"
#include "server/core/numbering.h"

namespace orch {
namespace {

// The template that has this template's numbers in the other graph; null: its numbers are new.
const StepTemplate* Counterpart(const Graph& other, const StepTemplate& step, uint32_t* t) {
  if (!step.at_run_time() && step.numbered() == 0) return nullptr;
  const StepIx ix = step.at_run_time() ? step.group : step.at(0);
  if (ix >= other.step_count()) return nullptr;
  *t = other.TemplateOf(ix);
  return &other.step(*t);
}

// Those made at run time that fan out over the same lists keep their instances, producers before consumers.
void KeepFanouts(RunKey run, const Graph& before, NextGeneration* next) {
  for (bool more = true; more;) {
    more = false;
    for (uint32_t t = 0; t < next->graph->templates().size(); ++t) {
      const StepTemplate& step = next->graph->step(t);
      uint32_t o = 0;
      if (!step.at_run_time() || step.removed || step.expanded) continue;
      const StepTemplate* old = Counterpart(before, step, &o);
      if (old == nullptr || !old->expanded || !SameForeach(before.spec().steps[o], next->graph->spec().steps[t])) {
        continue;
      }
      const bool ready = std::all_of(step.inputs.begin(), step.inputs.end(), [&](const InputBinding& input) {
        if (input.source != InputSpec::Source::kFrom || input.kind != EdgeKind::kItem) return true;
        const StepTemplate& producer = next->graph->step(input.producer);
        return !producer.at_run_time() || producer.expanded;
      });
      if (!ready) continue;
      auto fanout = LinkFanout(*next->graph, t, old->items);
      if (!fanout.ok()) continue;  // an item has no producer any more: it is made anew
      FanoutRow& row = next->fanouts.emplace_back();
      row.run = run;
      row.step = t;
      row.first = next->graph->step_count();
      row.items = EncodeItems(*old->items);
      next->graph = next->graph->With(*std::move(fanout));
      more = true;
    }
  }
}

bool ReadsTheSame(const Graph& before, const StepTemplate& then, const Graph& after, const StepTemplate& now,
                  uint32_t instance) {
  for (size_t i = 0; i < now.inputs.size(); ++i) {
    const InputBinding& input = now.inputs[i];
    if (input.source != InputSpec::Source::kFrom || input.kind != EdgeKind::kItem) continue;
    if (i >= then.inputs.size() || then.inputs[i].kind != EdgeKind::kItem) return false;
    const StepIx was = before.step(then.inputs[i].producer).at(then.inputs[i].item_producer[instance]);
    if (was != after.step(input.producer).at(input.item_producer[instance])) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<NextGeneration> GoOnWith(RunKey run, const Graph& before, const Graph& old_pipeline, bool numbered,
                                        const std::vector<FanoutRow>& fanouts,
                                        const std::shared_ptr<const Graph>& pipeline) {
  NextGeneration next;
  if (!numbered && SameSteps(old_pipeline, *pipeline)) {
    auto graph = WithFanouts(pipeline, fanouts);
    if (graph.ok()) {
      next.graph = *std::move(graph);
      return next;
    }
  }
  const Numbering numbering = Renumber(before, *pipeline);
  ASSIGN_OR_RETURN(next.graph, WithNumbering(*pipeline, numbering));
  next.numbering = EncodeNumbering(numbering);
  KeepFanouts(run, before, &next);
  return next;
}

std::vector<StepIx> ChangedSteps(const Graph& before, const Graph& after,
                                 const std::function<bool(const StepSpec&)>& touched) {
  std::vector<StepIx> changed;
  for (uint32_t t = 0; t < after.templates().size(); ++t) {
    const StepTemplate& now = after.step(t);
    uint32_t o = 0;
    const StepTemplate* then = now.removed ? nullptr : Counterpart(before, now, &o);
    if (then == nullptr) continue;
    const StepSpec& spec = after.spec().steps[t];
    const StepSpec& old_spec = before.spec().steps[o];
    const bool same_items = SameForeach(old_spec, spec);
    if (now.at_run_time() && (!same_items || (then->expanded && !now.expanded))) {
      changed.push_back(now.group);
      continue;
    }
    const bool same = SameDefinition(old_spec, spec) && !touched(spec);
    for (uint32_t i = 0; i < std::min(then->count, now.count); ++i) {
      const StepIx ix = now.at(i);
      if (same && (same_items || before.ItemOf(ix) == after.ItemOf(ix)) && ReadsTheSame(before, *then, after, now, i)) {
        continue;
      }
      changed.push_back(ix);
    }
    for (uint32_t i = then->count; i < std::min(then->numbered(), now.count); ++i) {
      changed.push_back(now.at(i));  // it has come back
    }
    if (now.count >= then->count) continue;
    for (const Edge& edge : now.edges) {  // who reads all of them reads fewer
      if (edge.kind != EdgeKind::kAll) continue;
      const StepTemplate& consumer = after.step(edge.consumer);
      if (edge.to_group) changed.push_back(consumer.group);
      for (uint32_t i = 0; i < consumer.count && !edge.to_group; ++i) changed.push_back(consumer.at(i));
    }
  }
  return changed;
}

}  // namespace orch
