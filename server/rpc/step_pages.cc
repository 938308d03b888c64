#include "server/rpc/step_pages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "server/rpc/convert_rows.h"

namespace orch::rpc {
namespace {

constexpr int kChunk = 1000;

bool Wants(const StepTerms& terms, StepState state) {
  return terms.states.empty() || std::find(terms.states.begin(), terms.states.end(), state) != terms.states.end();
}

bool Matches(const StepTerms& terms, const v1::Step& step) {
  return (terms.template_name.empty() || step.template_name() == terms.template_name) &&
         (terms.name_contains.empty() || absl::StrContains(step.name(), terms.name_contains));
}

}  // namespace

absl::Status AddOutputs(Engine& engine, const store::RunRecord& run, const Graph& graph, v1::Step* step) {
  const auto ix = static_cast<StepIx>(step->index());
  if (ix >= graph.step_count() || graph.SpecOf(ix).outputs.empty()) return absl::OkStatus();
  store::ArtifactFilter filter;
  filter.project = run.header.project;
  filter.run = run.header.key;
  filter.ix = ix;
  ASSIGN_OR_RETURN(const auto artifacts, engine.queries().ListArtifacts(filter, 0, kChunk));
  // Newest first, so that the first of an output is the one that counts.
  for (const auto& artifact : artifacts) {
    step->mutable_outputs()->insert({artifact.row.output, ArtifactName(artifact.row.id)});
  }
  return absl::OkStatus();
}

absl::StatusOr<StepPage> ReadSteps(Engine& engine, const store::RunRecord& run, const Graph& graph,
                                   const StepTerms& terms, StepIx from, int limit) {
  StepPage page;
  StepIx end = graph.step_count();
  if (!terms.template_name.empty()) {
    end = 0;
    for (uint32_t t = 0; t < graph.templates().size(); ++t) {
      if (graph.spec().steps[t].name != terms.template_name) continue;
      from = std::max(from, graph.templates()[t].first);
      end = graph.templates()[t].first + graph.templates()[t].count;
    }
  }
  const bool waiting = Wants(terms, StepState::kWaiting) &&
                       (terms.states.empty() || run.row.counts[static_cast<size_t>(StepState::kWaiting)] > 0);
  store::StepFilter filter;
  if (!waiting) filter.states = terms.states;  // only rows, which the store can choose by itself
  const auto add = [&](v1::Step step) -> absl::Status {
    if (Matches(terms, step)) {
      if (step.state() != v1::Step::WAITING) RETURN_IF_ERROR(AddOutputs(engine, run, graph, &step));
      page.steps.push_back(std::move(step));
    }
    return absl::OkStatus();
  };
  StepIx next = from;
  bool drained = false;
  while (next < end && static_cast<int>(page.steps.size()) < limit && !drained) {
    const int chunk = waiting || !terms.name_contains.empty() ? kChunk : limit - static_cast<int>(page.steps.size());
    ASSIGN_OR_RETURN(const std::vector<StepRow> rows, engine.queries().ListSteps(run.header.key, filter, next, chunk));
    drained = static_cast<int>(rows.size()) < chunk;
    for (const StepRow& row : rows) {
      if (row.ix >= end) {
        drained = true;
        break;
      }
      for (; waiting && next < row.ix && static_cast<int>(page.steps.size()) < limit; ++next) {
        RETURN_IF_ERROR(add(ToWaitingStep(run, graph, next)));
      }
      if (static_cast<int>(page.steps.size()) >= limit) break;
      next = row.ix + 1;
      if (Wants(terms, row.state)) RETURN_IF_ERROR(add(ToStep(run, graph, row)));
      if (static_cast<int>(page.steps.size()) >= limit) break;
    }
    if (!drained || static_cast<int>(page.steps.size()) >= limit) continue;
    for (; waiting && next < end && static_cast<int>(page.steps.size()) < limit; ++next) {
      RETURN_IF_ERROR(add(ToWaitingStep(run, graph, next)));
    }
    if (!waiting) next = end;
  }
  page.next = next;
  page.more = next < end;
  return page;
}

}  // namespace orch::rpc
