#include "server/rpc/step_pages.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/match.h"
#include "server/rpc/convert_rows.h"

namespace orch::rpc {
namespace {

// Steps looked at for one page: some milliseconds.
constexpr int64_t kMaxLookedAt = 10'000;
constexpr int64_t kMaxChunk = 2'000;

bool Wants(const StepTerms& terms, StepState state) {
  return terms.states.empty() || std::find(terms.states.begin(), terms.states.end(), state) != terms.states.end();
}

// Between which numbers the names allow any: [first, end).
struct Bounds {
  int64_t first = 0;
  int64_t end = 0;
};

Bounds BoundsOf(const Graph& graph, const StepTerms& terms) {
  Bounds out{0, int64_t{graph.step_count()}};
  if (!terms.template_name.empty()) {
    out = {out.end, 0};
    for (uint32_t t = 0; t < graph.templates().size(); ++t) {
      if (graph.spec().steps[t].name != terms.template_name) continue;
      const StepTemplate& step = graph.templates()[t];
      step.ForEachRange(0, step.numbered(), [&out](StepRange range) {
        out.first = std::min(out.first, int64_t{range.first});
        out.end = std::max(out.end, int64_t{range.first} + range.count);
      });
    }
    if (out.end == 0) out.first = 0;
  }
  if (!terms.name.empty()) {
    const std::optional<StepIx> ix = graph.FindStep(terms.name);
    if (!ix || int64_t{*ix} < out.first || int64_t{*ix} >= out.end) return {};
    out = {int64_t{*ix}, int64_t{*ix} + 1};
  }
  return out;
}

// Finds which steps a page has.
class Search {
 public:
  Search(Engine& engine, const store::RunRecord& run, const Graph& graph, const StepTerms& terms, bool descending,
         int limit)
      : engine_(engine), run_(run), graph_(graph), terms_(terms), limit_(limit), way_(descending ? -1 : 1) {
    // A run that has none in these states, as it was when it was read, has nothing to look for.
    int64_t counted = terms.states.empty() ? graph.step_count() : 0;
    for (int s = 1; s < kStepStateCount; ++s) {
      if (Wants(terms, static_cast<StepState>(s))) counted += run.row.counts[static_cast<size_t>(s)];
    }
    const Bounds bounds = counted == 0 ? Bounds() : BoundsOf(graph, terms);
    at_ = descending ? bounds.end - 1 : bounds.first;
    stop_ = descending ? bounds.first - 1 : bounds.end;
    // One that has just become READY has no row yet either.
    waiting_ = terms.states.empty() ||
               (Wants(terms, StepState::kWaiting) && run.row.counts[static_cast<size_t>(StepState::kWaiting)] > 0);
  }

  void GoOnAt(StepIx from) {
    if (way_ > 0 ? from > at_ : from < at_)
      at_ = way_ > 0 ? std::min(int64_t{from}, stop_) : std::max(int64_t{from}, stop_);
  }

  absl::Status Run() {
    while (!Over()) {
      const int64_t room = terms_.states.empty() ? limit_ - static_cast<int64_t>(found_.size()) : kMaxChunk;
      const int64_t chunk = std::clamp<int64_t>(room, 1, std::min(kMaxChunk, kMaxLookedAt - looked_at_));
      ASSIGN_OR_RETURN(
          const std::vector<store::StepMark> marks,
          engine_.queries().ScanSteps(run_.header.key, static_cast<StepIx>(at_), way_ < 0, static_cast<int>(chunk)));
      for (const store::StepMark& mark : marks) {
        if (way_ > 0 ? mark.ix >= stop_ : mark.ix <= stop_) break;
        PassRowless(mark.ix);
        if (Over()) break;
        ++looked_at_;
        if (Wants(terms_, mark.state)) Take(at_);
        at_ += way_;
        if (Over()) break;
      }
      if (static_cast<int64_t>(marks.size()) < chunk ||
          (way_ > 0 ? marks.back().ix >= stop_ : marks.back().ix <= stop_)) {
        PassRowless(stop_);
      }
    }
    return absl::OkStatus();
  }

  const std::vector<StepIx>& found() const { return found_; }
  std::optional<StepIx> next() const {
    return at_ == stop_ ? std::nullopt : std::optional<StepIx>(static_cast<StepIx>(at_));
  }

 private:
  bool Over() const { return at_ == stop_ || static_cast<int>(found_.size()) == limit_ || looked_at_ >= kMaxLookedAt; }
  // Up to `end`, which has a row or is the stop: steps that are WAITING.
  void PassRowless(int64_t end) {
    if (Over()) return;
    if (!waiting_) {
      at_ = end;
      return;
    }
    for (; at_ != end && !Over(); at_ += way_) {
      ++looked_at_;
      Take(at_);
    }
  }
  void Take(int64_t ix) {
    const auto number = static_cast<StepIx>(ix);
    // Of a run that was retried with other steps there may be others between them.
    if (!terms_.template_name.empty() &&
        (graph_.IsGroup(number) || graph_.SpecOf(number).name != terms_.template_name)) {
      return;
    }
    if (terms_.name_contains.empty() || absl::StrContains(graph_.StepName(number), terms_.name_contains)) {
      found_.push_back(number);
    }
  }

  Engine& engine_;
  const store::RunRecord& run_;
  const Graph& graph_;
  const StepTerms& terms_;
  const int limit_;
  const int way_;
  bool waiting_ = false;  // those without a row are wanted
  int64_t at_ = 0;        // the next to be looked at
  int64_t stop_ = 0;
  int64_t looked_at_ = 0;
  std::vector<StepIx> found_;
};

}  // namespace

absl::Status AddOutputs(Engine& engine, const store::RunRecord& run, const Graph& graph, v1::Step* step) {
  const auto ix = static_cast<StepIx>(step->index());
  if (ix >= graph.step_count() || graph.SpecOf(ix).outputs.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto outputs, engine.queries().ListOutputs(run.header.key, {ix}));
  // The last of an output is the one that counts.
  for (const store::StepOutput& output : outputs)
    (*step->mutable_outputs())[output.output] = ArtifactName(output.artifact);
  return absl::OkStatus();
}

absl::StatusOr<StepPage> ReadSteps(Engine& engine, const store::RunRecord& run, const Graph& graph,
                                   const StepTerms& terms, bool descending, std::optional<StepIx> from, int limit) {
  Search search(engine, run, graph, terms, descending, limit);
  if (from) search.GoOnAt(*from);
  RETURN_IF_ERROR(search.Run());
  ASSIGN_OR_RETURN(const std::vector<StepRow> rows, engine.queries().GetSteps(run.header.key, search.found()));
  std::vector<StepIx> with_outputs;
  for (const StepRow& row : rows) {
    if (row.ix < graph.step_count() && !graph.SpecOf(row.ix).outputs.empty()) with_outputs.push_back(row.ix);
  }
  std::unordered_map<StepIx, v1::Step*> by_ix;
  StepPage page;
  page.next = search.next();
  page.steps.reserve(search.found().size());
  auto row = rows.begin();
  for (const StepIx ix : search.found()) {
    const bool has_row = row != rows.end() && row->ix == ix;
    page.steps.push_back(has_row ? ToStep(run, graph, *row) : ToWaitingStep(run, graph, ix));
    if (has_row) ++row;
    by_ix[ix] = &page.steps.back();
  }
  ASSIGN_OR_RETURN(const auto outputs, engine.queries().ListOutputs(run.header.key, with_outputs));
  for (const store::StepOutput& output : outputs) {
    (*by_ix[output.ix]->mutable_outputs())[output.output] = ArtifactName(output.artifact);
  }
  return page;
}

}  // namespace orch::rpc
