// What holds for every graph that Compile lets through.
#pragma once

#include <set>

#include "server/core/compile.h"
#include "tests/fuzz/fuzz.h"

namespace orch::fuzz {

// Two graphs are the same if these texts are.
inline std::string Describe(const Graph& graph) {
  std::string out = graph.spec().name + "\n";
  const auto add = [&out](int64_t number) { out += " " + std::to_string(number); };
  for (const StepTemplate& step : graph.templates()) {
    add(step.first), add(step.count), add(step.upstreams), add(step.output_base), add(step.outputs);
    add(step.fan_out), add(step.needs_resolve);
    for (const Edge& edge : step.edges) {
      out += " edge";
      add(edge.consumer), add(static_cast<int>(edge.kind)), add(edge.early), add(edge.index), add(edge.output);
      for (const uint32_t n : edge.item_offsets) add(n);
      for (const uint32_t n : edge.item_consumers) add(n);
    }
    for (const InputBinding& input : step.inputs) {
      out += " input";
      add(static_cast<int>(input.source)), add(input.early), add(input.fan_in), add(input.value);
      add(static_cast<int>(input.kind)), add(input.producer), add(input.output), add(input.index);
    }
    for (const Demand& demand : step.demands) out += " " + demand.pool + "=" + std::to_string(demand.amount);
    out += "\n";
  }
  return out;
}

inline void CheckGraph(const Graph& graph, const CompileLimits& limits) {
  const Graph::Templates templates = graph.templates();
  REQUIRE(graph.spec().steps.size() == templates.size());
  REQUIRE(graph.step_count() <= limits.steps_per_run);
  std::vector<uint32_t> upstreams(templates.size()), group_upstreams(templates.size());
  StepIx first = 0;
  for (uint32_t t = 0; t < templates.size(); ++t) {
    const StepTemplate& step = templates[t];
    REQUIRE(step.first == first);
    if (step.at_run_time()) REQUIRE(step.group == first && step.count == 0 && !step.expanded);
    first += step.at_run_time() ? 1 : step.count;
    REQUIRE(step.inputs.size() == graph.spec().steps[t].inputs.size());
    for (const Edge& edge : step.edges) {
      REQUIRE(edge.consumer < templates.size() && edge.consumer != t);
      ++(edge.to_group ? group_upstreams : upstreams)[edge.consumer];
      if (edge.to_group) REQUIRE(templates[edge.consumer].at_run_time());
      if (edge.kind == EdgeKind::kGroup) REQUIRE(step.at_run_time());
      if (edge.kind == EdgeKind::kIndex && !step.at_run_time()) REQUIRE(edge.index < step.count);
      if (edge.early) REQUIRE(edge.output < step.outputs);
      if (edge.kind != EdgeKind::kItem) continue;
      if (templates[edge.consumer].at_run_time()) {  // linked once it has instances
        REQUIRE(edge.item_offsets.empty());
        continue;
      }
      REQUIRE(edge.item_offsets.size() == size_t{step.count} + 1);
      REQUIRE(edge.item_offsets.back() == edge.item_consumers.size());
      REQUIRE(edge.item_consumers.size() == templates[edge.consumer].count);  // each has exactly one producer
      for (const uint32_t consumer : edge.item_consumers) REQUIRE(consumer < templates[edge.consumer].count);
    }
    for (const InputBinding& input : step.inputs) {
      if (input.source != InputSpec::Source::kFrom) continue;
      REQUIRE(input.producer < templates.size() && input.output < templates[input.producer].outputs);
      if (input.kind == EdgeKind::kIndex && !templates[input.producer].at_run_time())
        REQUIRE(input.index < templates[input.producer].count);
    }
  }
  REQUIRE(first == graph.step_count());
  for (uint32_t t = 0; t < templates.size(); ++t) {
    REQUIRE(upstreams[t] == templates[t].upstreams && group_upstreams[t] == templates[t].group_upstreams);
    upstreams[t] += group_upstreams[t];
  }

  // No cycle: counting down from the roots reaches every template.
  std::vector<uint32_t> ready;
  for (uint32_t t = 0; t < templates.size(); ++t) {
    if (upstreams[t] == 0) ready.push_back(t);
  }
  size_t reached = 0;
  while (!ready.empty()) {
    const uint32_t t = ready.back();
    ready.pop_back();
    ++reached;
    for (const Edge& edge : templates[t].edges) {
      if (--upstreams[edge.consumer] == 0) ready.push_back(edge.consumer);
    }
  }
  REQUIRE(reached == templates.size());

  std::set<uint32_t> slots;
  for (StepIx ix = 0; ix < graph.step_count() && ix < 64; ++ix) {
    REQUIRE(graph.FindStep(graph.StepName(ix)) == ix);
    (void)graph.ItemJson(ix);
    for (uint32_t o = 0; o < templates[graph.TemplateOf(ix)].outputs && !graph.IsGroup(ix); ++o) {
      const uint32_t slot = graph.OutputSlot(ix, o);
      REQUIRE(slot < graph.output_count() && slots.insert(slot).second);
    }
  }
}

}  // namespace orch::fuzz
