#include "server/core/reopening.h"

#include <algorithm>
#include <set>
#include <utility>

namespace orch {
namespace {

// Skipped because something went wrong, not because it was meant to be.
bool SkippedForHarm(Reason reason) {
  return reason == Reason::kUpstreamFailed || reason == Reason::kRunHalted || reason == Reason::kRunDeadline ||
         reason == Reason::kCancelRequested;
}

class Reopening {
 public:
  explicit Reopening(const StoredRun& run)
      : graph_(*run.graph),
        rows_(graph_.step_count(), nullptr),
        chosen_(graph_.step_count(), false),
        there_(graph_.output_count(), false),
        followed_(graph_.templates().size(), false) {
    for (const StepRow& row : run.steps) rows_[row.ix] = &row;
    for (const ArtifactRow& artifact : run.artifacts) {
      const StepRow* row = rows_[artifact.ix];
      if (row == nullptr) continue;
      const auto slot = CountingSlot(graph_, artifact, row->state, row->earlier_attempts);
      if (slot) there_[*slot] = true;
    }
  }

  void ChooseAsked(const std::vector<StepIx>& steps) {
    for (const StepIx ix : steps) {
      const StepTemplate& step = graph_.step(graph_.TemplateOf(ix));
      if (step.Has(ix)) {
        Choose(ix);
      } else if (step.at_run_time() && !step.removed && !step.expanded) {
        Choose(step.group);
      }
    }
  }

  void ChooseOpen(bool unsuccessful) {
    for (StepIx ix = 0; ix < rows_.size(); ++ix) {
      if (!graph_.Has(ix)) continue;
      const StepRow* row = rows_[ix];
      if (row == nullptr || !IsTerminal(row->state) || row->reason == Reason::kStepRemoved) {
        Choose(ix);  // it is new, or has come back
        continue;
      }
      if (!unsuccessful) continue;
      const bool harmed = row->state == StepState::kFailed || row->state == StepState::kCancelled ||
                          (row->state == StepState::kSkipped && SkippedForHarm(row->reason));
      if (harmed) Choose(ix);
    }
  }

  std::vector<bool> WithAllThatGoesAlong() && {
    while (!left_.empty()) {
      const StepIx ix = left_.back();
      left_.pop_back();
      const uint32_t t = graph_.TemplateOf(ix);
      const StepTemplate& step = graph_.step(t);
      for (uint32_t i = 0; step.group == ix && i < step.numbered(); ++i) Choose(step.at(i));
      if (!step.Has(ix)) continue;
      NeedWhatItReads(step, ix);
      Follow(t, step, ix);
    }
    return std::move(chosen_);
  }

 private:
  void Choose(StepIx ix) {
    if (chosen_[ix]) return;
    chosen_[ix] = true;
    left_.push_back(ix);
  }

  // All that depends on it.
  void Follow(uint32_t t, const StepTemplate& producer, StepIx ix) {
    const bool group = producer.group == ix;
    const uint32_t instance = group ? 0 : producer.InstanceOf(ix);
    for (const Edge& edge : producer.edges) {
      const StepTemplate& consumer = graph_.step(edge.consumer);
      if (edge.to_group) {
        const bool follow = edge.kind == EdgeKind::kGroup   ? group
                            : edge.kind == EdgeKind::kIndex ? !group && edge.index == instance
                                                            : true;
        if (follow) Choose(consumer.group);
      } else if (edge.kind == EdgeKind::kItem) {
        if (group || edge.item_offsets.empty()) continue;
        for (uint32_t k = edge.item_offsets[instance]; k < edge.item_offsets[instance + 1]; ++k) {
          Choose(consumer.at(edge.item_consumers[k]));
        }
      } else if (edge.kind == EdgeKind::kAll ? !followed_[t] : !group && edge.index == instance) {
        for (uint32_t i = 0; i < consumer.count; ++i) Choose(consumer.at(i));
      }
    }
    followed_[t] = true;
  }

  void NeedWhatItReads(const StepTemplate& step, StepIx ix) {
    if (step.group == ix) {
      for (const auto& list : step.lists) {
        if (list) NeedInput(*list, 0);
      }
      return;
    }
    for (const InputBinding& input : step.inputs) NeedInput(input, step.InstanceOf(ix));
    for (const WhenSource& source : step.when_sources) NeedValues(source, ix);
  }

  void NeedInput(const InputBinding& input, uint32_t instance) {
    if (input.source != InputSpec::Source::kFrom) return;
    const StepTemplate& producer = graph_.step(input.producer);
    if (input.kind == EdgeKind::kAll) NeedAll(input.producer, input.output);
    if (input.kind == EdgeKind::kIndex && input.index < producer.count) Need(producer, input.index, input.output);
    if (input.kind == EdgeKind::kItem && instance < input.item_producer.size()) {
      Need(producer, input.item_producer[instance], input.output);
    }
  }

  void NeedValues(const WhenSource& source, StepIx ix) {
    const std::vector<OutputSpec>& outputs = graph_.spec().steps[source.producer].outputs;
    for (uint32_t o = 0; o < outputs.size(); ++o) {
      if (!outputs[o].value) continue;
      if (source.input == WhenSource::kEvery) {
        NeedAll(source.producer, o);
        continue;
      }
      const auto [first, end] = graph_.WhenInstances(ix, source);
      for (uint32_t i = first; i < end; ++i) Need(graph_.step(source.producer), i, o);
    }
  }

  void NeedAll(uint32_t producer, uint32_t output) {
    if (!needed_.emplace(producer, output).second) return;
    const StepTemplate& step = graph_.step(producer);
    for (uint32_t i = 0; i < step.count; ++i) Need(step, i, output);
  }

  void Need(const StepTemplate& producer, uint32_t instance, uint32_t output) {
    const StepIx ix = producer.at(instance);
    if (rows_[ix] != nullptr && IsOk(rows_[ix]->state) && !there_[graph_.OutputSlot(ix, output)]) Choose(ix);
  }

  const Graph& graph_;
  std::vector<const StepRow*> rows_;
  std::vector<bool> chosen_;
  std::vector<StepIx> left_;  // chosen, and not looked at yet
  std::vector<bool> there_;   // by slot: an output that counts
  // Whole fan-ins are looked at once, however many of their producers or consumers are chosen.
  std::vector<bool> followed_;                      // by template
  std::set<std::pair<uint32_t, uint32_t>> needed_;  // (template, output)
};

}  // namespace

std::vector<bool> StepsToReopen(const RunRetried& event) {
  Reopening reopening(event.run);
  reopening.ChooseAsked(event.steps);
  reopening.ChooseOpen(event.unsuccessful);
  return std::move(reopening).WithAllThatGoesAlong();
}

std::optional<uint32_t> CountingSlot(const Graph& graph, const ArtifactRow& artifact, StepState state,
                                     uint32_t earlier_attempts) {
  // Those of the cache have no attempt.
  const bool counts = state == StepState::kCached ? artifact.attempt == 0 : artifact.attempt > earlier_attempts;
  const std::vector<OutputSpec>& outputs = graph.SpecOf(artifact.ix).outputs;
  const auto found =
      std::find_if(outputs.begin(), outputs.end(), [&](const OutputSpec& o) { return o.name == artifact.output; });
  if (found == outputs.end() || !counts || !graph.Has(artifact.ix)) return std::nullopt;
  return graph.OutputSlot(artifact.ix, static_cast<uint32_t>(found - outputs.begin()));
}

}  // namespace orch
