#include "server/core/upstreams.h"

#include <optional>
#include <utility>

namespace orch {
namespace {

// The producer's instances [from, to), and its group.
std::vector<StepRange> StepsOf(const StepTemplate& producer, uint32_t from, uint32_t to) {
  std::vector<StepRange> steps;
  if (producer.at_run_time()) steps.push_back({producer.group, 1});
  producer.ForEachRange(from, to, [&steps](StepRange range) { steps.push_back(range); });
  return steps;
}

}  // namespace

std::vector<Upstream> UpstreamsOf(const Graph& graph, StepIx ix) {
  const uint32_t t = graph.TemplateOf(ix);
  const StepTemplate& step = graph.step(t);
  std::vector<Upstream> out;
  const auto add = [&out](Upstream::Why why, size_t number, std::vector<StepRange> steps) {
    out.push_back({why, static_cast<uint32_t>(number), std::move(steps)});
  };
  if (step.removed) return out;
  if (step.group == ix) {
    for (size_t k = 0; k < step.lists.size(); ++k) {
      if (!step.lists[k]) continue;
      const InputBinding& list = *step.lists[k];
      const StepTemplate& producer = graph.step(list.producer);
      const bool all = list.kind == EdgeKind::kAll;
      add(Upstream::Why::kList, k, StepsOf(producer, all ? 0 : list.index, all ? producer.count : list.index + 1));
    }
    for (const InputBinding& input : step.inputs) {
      if (input.source != InputSpec::Source::kFrom || input.kind != EdgeKind::kItem) continue;
      const StepTemplate& producer = graph.step(input.producer);
      if (producer.at_run_time()) add(Upstream::Why::kItems, 0, {{producer.group, 1}});
    }
    return out;
  }
  if (step.at_run_time()) add(Upstream::Why::kGroup, 0, {{step.group, 1}});
  if (!step.Has(ix)) return out;
  const uint32_t instance = step.InstanceOf(ix);
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const InputBinding& input = step.inputs[i];
    if (input.source != InputSpec::Source::kFrom) continue;
    const StepTemplate& producer = graph.step(input.producer);
    if (input.kind == EdgeKind::kAll) {
      add(Upstream::Why::kInput, i, StepsOf(producer, 0, producer.count));
    } else {
      const uint32_t one = input.kind == EdgeKind::kItem ? input.item_producer[instance] : input.index;
      add(Upstream::Why::kInput, i, StepsOf(producer, one, one + 1));
    }
  }
  const std::vector<std::string>& after = graph.spec().steps[t].after;
  for (size_t a = 0; a < after.size(); ++a) {
    const StepTemplate* producer = graph.FindTemplate(after[a]);
    if (producer != nullptr) add(Upstream::Why::kAfter, a, StepsOf(*producer, 0, producer->count));
  }
  return out;
}

}  // namespace orch
