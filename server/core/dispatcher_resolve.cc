// What a READY step still has to know before it may start: whether its condition holds, which artifacts from outside
// the run it reads, and whether the cache has its outputs.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/core/compile.h"
#include "server/core/dispatcher.h"

namespace orch {

// READY: its condition, its inputs from outside the run and the cache are asked about. Where the cache's answer came
// with the submission, it is taken at once.
void Dispatcher::AskToResolve(RunInMemory& run, StepIx ix) {
  if (!run.found.hits.empty() && TakeFound(run, ix)) return;
  Detail(run, ix).resolving = true;
  Intent& intent = out_.intents.emplace_back();
  intent.kind = Intent::Kind::kResolveStep;
  intent.ref = {run.header.key, ix, run.cells[ix].attempt + 1};
  intent.generation = run.row.generation;
  intent.inputs = InputsOf(run, ix);
  intent.when_values = WhenValuesOf(run, ix);
  Detail(run, ix).landed_meanwhile = false;
  AwaitArtifacts(run, ix);
}

// From the question on: what lands between it and its answer must not be missed.
void Dispatcher::AwaitArtifacts(const RunInMemory& run, StepIx ix) {
  for (const InputSpec& input : run.graph->SpecOf(ix).inputs) {
    if (input.source != InputSpec::Source::kArtifact) continue;
    const auto ref = ParseArtifactReference(input.ref);
    if (ref) awaited_[{run.header.project, ref->name}].emplace(run.header.key, ix);
  }
}

size_t Dispatcher::awaiting_artifacts() const {
  size_t out = 0;
  for (const auto& [name, steps] : awaited_) out += steps.size();
  return out;
}

void Dispatcher::AwaitNoMore(const RunInMemory& run, StepIx ix) {
  if (awaited_.empty()) return;
  for (const InputSpec& input : run.graph->SpecOf(ix).inputs) {
    if (input.source != InputSpec::Source::kArtifact) continue;
    const auto ref = ParseArtifactReference(input.ref);
    const auto found = ref ? awaited_.find({run.header.project, ref->name}) : awaited_.end();
    if (found == awaited_.end()) continue;
    found->second.erase({run.header.key, ix});
    if (found->second.empty()) awaited_.erase(found);
  }
}

void Dispatcher::WakeForArtifact(const std::string& project, const std::string& name) {
  if (awaited_.empty()) return;
  const auto found = awaited_.find({project, name});
  if (found == awaited_.end()) return;
  const auto waiting = std::move(found->second);
  awaited_.erase(found);
  for (const auto& [key, ix] : waiting) {
    RunInMemory* run = FindRun(key);
    if (run == nullptr) continue;
    const auto detail = run->details.find(ix);
    if (detail == run->details.end()) continue;
    if (detail->second.resolving) {
      detail->second.landed_meanwhile = true;
    } else if (run->cells[ix].state == StepState::kWaiting && run->cells[ix].open == 0) {
      Judge(*run, ix);
    }
  }
}

std::vector<ArtifactId> Dispatcher::WhenValuesOf(const RunInMemory& run, StepIx ix) const {
  std::vector<ArtifactId> out;
  for (const WhenSource& source : run.graph->templates()[run.graph->TemplateOf(ix)].when_sources) {
    const std::vector<OutputSpec>& outputs = run.graph->spec().steps[source.producer].outputs;
    const auto [first, end] = run.graph->WhenInstances(ix, source);
    for (uint32_t instance = first; instance < end; ++instance) {
      const StepIx producer = run.graph->step(source.producer).at(instance);
      for (uint32_t o = 0; o < outputs.size(); ++o) {
        if (!outputs[o].value) continue;
        out.push_back(IsOk(run.cells[producer].state) ? run.artifacts[run.graph->OutputSlot(producer, o)] : 0);
      }
    }
  }
  return out;
}

absl::Status Dispatcher::On(StepsResolved& event) {
  for (StepResolved& step : event.steps) RETURN_IF_ERROR(On(step));
  return absl::OkStatus();
}

absl::Status Dispatcher::On(StepResolved& event) {
  RunInMemory* run = FindRun(event.run);
  if (run == nullptr || event.ix >= run->cells.size() || run->row.generation != event.generation ||
      run->cells[event.ix].state != StepState::kReady || !Detail(*run, event.ix).resolving) {
    ++late_events_;
    return absl::OkStatus();
  }
  const StepIx ix = event.ix;
  StepDetail& detail = Detail(*run, ix);
  detail.resolving = false;
  detail.resolved = true;
  if (event.failure != Reason::kNone) {
    EndStep(*run, ix, StepEvent::kResolveFailed, StepState::kFailed, event.failure, std::move(event.message));
    return absl::OkStatus();
  }
  if (event.when_false) {
    EndStep(*run, ix, StepEvent::kWhenFalse, StepState::kSkipped, Reason::kWhenFalse, std::move(event.message));
    return absl::OkStatus();
  }
  if (!event.waits_for.empty()) {
    LeaveFlight(*run, ix);
    detail.resolved = false;
    if (detail.landed_meanwhile) {
      AskToResolve(*run, ix);
      return absl::OkStatus();
    }
    SetStep(*run, ix, StepEvent::kInputOpen, StepState::kWaiting, Reason::kWaitingForInputs,
            absl::StrCat("waits for artifact `", event.waits_for, "`"));
    return absl::OkStatus();
  }
  AwaitNoMore(*run, ix);
  detail.external = std::move(event.external);
  if (event.hit) {
    if (!cache_changes_.Unchanged(event.cache_key, event.as_of)) {  // it is another entry by now, or none
      detail.resolved = false;
      Offer(*run, ix);
      return absl::OkStatus();
    }
    TakeHit(*run, ix, event.hit_run, std::move(event.outputs));
    return absl::OkStatus();
  }
  if (detail.cache_key != event.cache_key) LeaveFlight(*run, ix);
  detail.cache_key = std::move(event.cache_key);
  if (!detail.cache_key.empty()) {
    CacheMissRow& miss = out_.batch.cache_misses.emplace_back();
    miss.run = run->header.key;
    miss.ix = ix;
    miss.attempt = run->cells[ix].attempt + 1;
    miss.key = detail.cache_key;
    miss.parts_json = std::move(event.parts_json);
    miss.verdict = event.verdict;
    miss.created = now_.wall;
    if (!flights_.Ask(detail.cache_key, {run->header.key, ix})) {
      ShowWaiting(*run, ix, Reason::kWaitingForLeader);
      return absl::OkStatus();
    }
  }
  Enqueue(*run, ix, now_.mono);
  return absl::OkStatus();
}

}  // namespace orch
