// What concerns the cache: asking it, taking a hit, and waiting for a step that computes the same.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"
#include "server/base/status.h"
#include "server/core/dispatcher.h"

namespace orch {

// A hit that a handler found counts if its entry is unchanged and the step's inputs are those the handler saw: outputs
// of hits of the same finding.
bool Dispatcher::TakeFound(RunInMemory& run, StepIx ix) {
  const auto found = std::lower_bound(run.found.hits.begin(), run.found.hits.end(), ix,
                                      [](const FoundHit& hit, StepIx number) { return hit.ix < number; });
  if (found == run.found.hits.end() || found->ix != ix || found->taken) return false;
  const auto drop = [&] {  // what follows from it does not hold either
    run.found = {};
    return false;
  };
  if (run.row.generation != 1) return drop();
  const StepTemplate& step = run.graph->templates()[run.graph->TemplateOf(ix)];
  const uint32_t instance = step.InstanceOf(ix);
  for (const InputBinding& input : step.inputs) {
    if (input.source != InputSpec::Source::kFrom) continue;
    const StepTemplate& producer = run.graph->templates()[input.producer];
    const auto taken = [&](uint32_t i) { return run.cells[producer.at(i)].state == StepState::kCached; };
    bool all = true;
    switch (input.kind) {
      case EdgeKind::kAll:
        if (run.found_taken.size() <= input.producer || run.found_taken[input.producer] != producer.count) all = false;
        break;
      case EdgeKind::kItem:
        all = taken(input.item_producer[instance]);
        break;
      case EdgeKind::kIndex:
        all = taken(input.index);
        break;
      case EdgeKind::kGroup:
        break;
    }
    if (!all && !(input.kind == EdgeKind::kAll && producer.count == 0)) return drop();
  }
  if (!cache_changes_.Unchanged(found->key, run.found.as_of) && !ORCH_PLANTED("take_changed_hit")) return drop();
  found->taken = true;
  const uint32_t t = run.graph->TemplateOf(ix);
  if (run.found_taken.size() <= t) run.found_taken.resize(run.graph->templates().size(), 0);
  ++run.found_taken[t];
  const auto outputs = run.found.outputs.begin() + found->first_output;
  TakeHit(run, ix, run.found.runs[found->run], {outputs, outputs + found->outputs});
  return true;
}

void Dispatcher::TakeHit(RunInMemory& run, StepIx ix, const std::string& from, std::vector<StoredOutput> outputs) {
  for (const StoredOutput& output : outputs) Land(run, ix, 0, output, false);
  Detail(run, ix).row.cached_from = from;
  EndStep(run, ix, StepEvent::kCacheHit, StepState::kCached, Reason::kCacheHit,
          from.empty() ? std::string("the outputs are those of a run that has been deleted")
                       : absl::StrCat("the outputs are those of run `", from, "`"));
}

absl::Status Dispatcher::On(CacheEntriesRemoved& event) {
  for (std::string& key : event.keys) {
    cache_changes_.Note(key);
    if (!event.rows_go_with_it) out_.batch.removed_cache_entries.emplace_back(event.project, std::move(key));
  }
  return absl::OkStatus();
}

// Its slots have been taken; false: somebody else computes the same, and the step waits for that.
bool Dispatcher::TakeLead(RunInMemory& run, StepIx ix) {
  StepDetail& detail = Detail(run, ix);
  if (detail.cache_key.empty()) return true;
  if (!flights_.Lead(detail.cache_key, {run.header.key, ix})) {
    detail.queued = false;
    ShowWaiting(run, ix, Reason::kWaitingForLeader);
    return false;
  }
  overtaken_.push_back(detail.cache_key);
  return true;
}

void Dispatcher::EndFlight(RunInMemory& run, StepIx ix, const std::string& key, bool landed) {
  if (key.empty()) return;
  for (const SingleFlight::Step& step : flights_.End(key, {run.header.key, ix}, landed)) {
    woken_.emplace_back(step.run, step.ix);
  }
}

void Dispatcher::LeaveFlight(RunInMemory& run, StepIx ix) {
  const auto found = run.details.find(ix);
  if (found == run.details.end() || found->second.cache_key.empty()) return;
  const auto next = flights_.Leave(std::exchange(found->second.cache_key, std::string()), {run.header.key, ix});
  if (next.has_value()) woken_.emplace_back(next->run, next->ix);
}

// It may not start for now: nobody shall wait for it meanwhile. When it may, the cache is asked again.
void Dispatcher::Park(RunInMemory& run, StepIx ix) {
  Dequeue(run, ix);
  StepDetail& detail = Detail(run, ix);
  detail.queued = false;
  if (detail.cache_key.empty()) return;
  LeaveFlight(run, ix);
  detail.resolved = false;
  ShowWaiting(run, ix, Reason::kNone);
}

void Dispatcher::ShowWaiting(RunInMemory& run, StepIx ix, Reason reason) {
  StepDetail& detail = Detail(run, ix);
  run.cells[ix].reason = reason;
  detail.row.reason = reason;
  if (detail.logged) MarkDirty(run, ix);
}

// Those who asked while another step with their key started, and those whose leader has ended: in slices, as there may
// be very many.
void Dispatcher::WorkOffFlights(int budget) {
  while (budget > 0 && !overtaken_.empty()) {
    const auto steps = flights_.Overtaken(overtaken_.front(), static_cast<size_t>(budget));
    for (const SingleFlight::Step& step : steps) {
      RunInMemory* run = FindRun(step.run);
      if (run == nullptr) continue;
      Dequeue(*run, step.ix);
      ShowWaiting(*run, step.ix, Reason::kWaitingForLeader);
    }
    budget -= std::max<int>(1, static_cast<int>(steps.size()));
    if (steps.empty()) overtaken_.pop_front();
  }
  for (; budget > 0 && !woken_.empty(); --budget) {
    const auto [key, ix] = woken_.front();
    woken_.pop_front();
    RunInMemory* run = FindRun(key);
    if (run == nullptr || run->cells[ix].state != StepState::kReady) continue;
    StepDetail& detail = Detail(*run, ix);
    if (detail.resolving || detail.queued) continue;
    if (!MayStart(*run)) {
      Park(*run, ix);
      continue;
    }
    ShowWaiting(*run, ix, Reason::kNone);
    AskToResolve(*run, ix);
  }
}

}  // namespace orch
