// PlanRun: what a submission would do, and how long that would take.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/status.h"
#include "server/core/cache_warnings.h"
#include "server/core/estimate.h"
#include "server/core/fanout.h"
#include "server/engine/engine_impl.h"
#include "server/engine/parameters.h"
#include "server/engine/render.h"

namespace orch {
namespace {

// Of so many steps it is said which part of the key changed; each is two reads and a comparison.
constexpr int kMostCompared = 200;

std::string MissWords(const StepLook& look, const PlannedStep& step) {
  switch (look.verdict) {
    case CacheVerdict::kExpired:
      return absl::StrCat("the entry of run `", look.run_name, "` is older than the step's ttl");
    case CacheVerdict::kBytesMissing:
      return absl::StrCat("the outputs of run `", look.run_name, "` are gone from the store, or damaged");
    case CacheVerdict::kNoEntry:
      break;
  }
  if (step.compared_with.empty()) return "not in the cache";
  if (step.changes.empty()) return absl::StrCat("not in the cache; it is as in run `", step.compared_with, "`");
  return absl::StrCat(step.changes.front().part, " is not as in run `", step.compared_with, "`",
                      step.changes.size() > 1 ? absl::StrCat(" (and ", step.changes.size() - 1, " more)") : "");
}

std::string NotCachedWords(const StepSpec& step, bool use_cache) {
  if (!step.options().cache_enabled) return "not cached: the step does not ask for it";
  if (!use_cache) return "not cached: turned off for this run";
  return "not cached: it names the run or the attempt";
}

// With `expected` what it is likely to become.
std::string DependsWords(const Graph& graph, const Graph& expected, StepIx ix) {
  const StepSpec& spec = graph.SpecOf(ix);
  if (graph.IsGroup(ix)) {
    const StepTemplate& likely = expected.step(graph.TemplateOf(ix));
    return absl::StrCat("its instances are made once the lists it fans out over have landed",
                        likely.expanded ? absl::StrCat("; by the runs before there will be ", likely.count) : "");
  }
  if (!spec.options().when.empty()) return absl::StrCat("it runs if `", spec.options().when, "`");
  return "what comes before it runs; if that gives the same bytes, it is cached";
}

// The graph in which fan-outs made at run time have as many instances as the runs before have made; what these are
// nobody knows, so they are told apart by number.
std::shared_ptr<const Graph> ExpectedGraph(std::shared_ptr<const Graph> graph, const StepHistory::Of& history) {
  if (!graph->fans_out_at_run_time() || history.steps.empty()) return graph;
  const auto width = [&](const std::string& name) {
    uint32_t n = 0;
    while (history.steps.count(absl::StrCat(name, "[", n, "]")) > 0) ++n;
    return n;
  };
  for (bool more = true; more;) {  // producers before those who are linked to them by item
    more = false;
    for (uint32_t t = 0; t < graph->templates().size(); ++t) {
      const StepTemplate& step = graph->step(t);
      if (!step.at_run_time() || step.expanded) continue;
      const StepSpec& spec = graph->spec().steps[t];
      auto items = std::make_shared<Items>();
      for (uint32_t i = 0; i < width(spec.name); ++i) items->emplace_back(spec.foreach.size(), absl::StrCat(i));
      if (items->empty()) continue;
      auto fanout = LinkFanout(*graph, t, std::move(items));
      if (!fanout.ok()) continue;
      graph = graph->With(*std::move(fanout));
      more = true;
    }
  }
  return graph;
}

}  // namespace

std::map<std::string, int64_t> EngineImpl::CapacityByPool() {
  std::map<std::string, int64_t> out;
  const Components now = components();
  for (const OrchestratorRow& row : now.orchestrators) {
    if (row.max_parallel > 0) out[absl::StrCat(row.name, "/parallel")] = row.max_parallel;
    const auto backend = outbox_->FindBackend(row.name);
    if (backend == nullptr) continue;
    const Capacity offered = backend->capacity();
    if (offered.cpu_millis) out[absl::StrCat(row.name, "/cpu")] = *offered.cpu_millis;
    if (offered.memory) out[absl::StrCat(row.name, "/memory")] = *offered.memory;
    if (offered.gpu) out[absl::StrCat(row.name, "/gpu")] = *offered.gpu;
    for (const auto& [what, slots] : offered.custom) out[absl::StrCat(row.name, "/custom/", what)] = slots;
  }
  for (const PoolRow& pool : now.pools) out[absl::StrCat("pool/", pool.name)] = pool.slots;
  return out;
}

absl::StatusOr<std::vector<std::string>> EngineImpl::NativeOf(const RunContext& run, StepIx ix) {
  const std::string& own = run.graph->SpecOf(ix).options().orchestrator;
  const std::string& orchestrator = own.empty() ? run.header.orchestrator : own;
  const auto backend = outbox_->FindBackend(orchestrator);
  if (backend == nullptr || !backend->tells_native()) return std::vector<std::string>();
  ASSIGN_OR_RETURN(const AttemptWork work, workshop_->Sketch(run, ix, outbox_->FlavorOf(orchestrator), backend.get()));
  return backend->Native(work);
}

absl::StatusOr<PlannedRun> EngineImpl::PlanRun(SubmitCommand command, int64_t max_steps, bool native) {
  PlannedRun out;
  ASSIGN_OR_RETURN(const Place place, PlaceOf(command));
  const std::string& orchestrator = place.orchestrator;
  const std::string name = command.pipeline().name;
  std::vector<Violation>& faults = out.checked.violations;
  const absl::Status refusal = CheckAgainstComponents(orchestrator, place.artifact_store, command.pipeline(), &faults);
  if (!refusal.ok()) faults.push_back({"orchestrator", std::string(refusal.message()), ReasonOf(refusal)});
  FilledParameters parameters = FillParameters(command.pipeline(), command.parameters_json, false);
  faults.insert(faults.end(), parameters.violations.begin(), parameters.violations.end());
  const std::vector<Violation> conditions =
      conditions_->Check(command.pipeline(), parameters.violations.empty() ? parameters.json : "");
  faults.insert(faults.end(), conditions.begin(), conditions.end());
  out.checked.warnings = CacheWarnings(command.pipeline());
  const auto checked = catalog_->Check(&command);
  if (!checked.ok()) {
    const std::vector<Violation> more = ViolationsOf(checked.status());
    if (more.empty()) return checked.status();
    faults.insert(faults.end(), more.begin(), more.end());
  }
  if (!faults.empty()) return out;
  out.graph = (*checked)->graph;
  const Graph& graph = *out.graph;
  out.checked.step_count = graph.step_count();

  RunHeader header;
  header.project = command.project;
  header.name = "plan";
  header.pipeline = name;
  header.orchestrator = orchestrator;
  header.parameters_json = std::move(parameters.json);
  header.submitter_host = command.submitter_host;
  header.source_dir = command.source_dir;
  header.use_cache = command.use_cache;
  header.execution_mode = command.execution_mode.value_or(graph.spec().execution_mode);
  header.max_parallel = command.max_parallel > 0 ? command.max_parallel : graph.spec().max_parallel;
  ASSIGN_OR_RETURN(const auto run, MakeRunContext(std::move(header), out.graph));
  ASSIGN_OR_RETURN(const std::vector<StepLook> looks, LookAtAll(*run, cache_.get(), &sources_));
  ASSIGN_OR_RETURN(const auto history, history_->Read(command.project, name));
  out.history_runs = history->runs;

  const auto backend = outbox_->FindBackend(orchestrator);
  if (backend != nullptr && backend->takes_runs()) {
    out.why_step_by_step = whole_runs_->WhyNot(*run, outbox_->FlavorOf(orchestrator), *backend);
    out.whole = out.why_step_by_step.empty();
    if (native && out.whole && backend->tells_native()) {
      std::vector<bool> hits(graph.step_count());
      for (StepIx ix = 0; ix < graph.step_count(); ++ix) hits[ix] = looks[ix].what == StepLook::What::kHit;
      ASSIGN_OR_RETURN(const RunOutline outline,
                       workshop_->SketchRun(*run, outbox_->FlavorOf(orchestrator), backend.get(), hits));
      if (!outline.tasks.empty()) out.native = backend->NativeRun(outline);
    }
  }

  const std::shared_ptr<const Graph> expected = ExpectedGraph(out.graph, *history);
  EstimateInput input;
  input.graph = expected.get();
  input.orchestrator = orchestrator;
  input.capacity = CapacityByPool();
  input.max_parallel = run->header.max_parallel;
  input.micros.resize(expected->step_count());
  std::vector<int> samples(graph.step_count(), 0);
  for (StepIx ix = graph.step_count(); ix < expected->step_count(); ++ix) {
    const auto known = history->steps.find(expected->StepName(ix));
    if (known != history->steps.end()) input.micros[ix] = known->second.first;
  }
  for (StepIx ix = 0; ix < graph.step_count(); ++ix) {
    if (looks[ix].what == StepLook::What::kHit) {
      ++out.cached;
      continue;
    }
    ++(looks[ix].what == StepLook::What::kDepends ? out.depends : out.runs);
    if (history->steps.empty()) continue;
    const auto known = history->steps.find(graph.StepName(ix));
    if (known == history->steps.end()) continue;
    input.micros[ix] = known->second.first;
    samples[ix] = known->second.second;
    ++out.known;
  }
  Estimate estimate = EstimateRun(input);
  out.total_micros = estimate.total_micros;
  out.critical = std::move(estimate.critical);
  std::vector<bool> critical(expected->step_count(), false);
  for (const StepIx ix : out.critical) critical[ix] = true;

  const int64_t now = Clock::Real().Now().wall;
  int compared = 0;
  out.steps.reserve(std::min<size_t>(estimate.order.size(), static_cast<size_t>(max_steps)));
  for (const StepIx ix : estimate.order) {
    if (static_cast<int64_t>(out.steps.size()) >= max_steps) break;
    if (ix >= graph.step_count()) continue;  // it is there for the time it takes
    const StepLook& look = looks[ix];
    PlannedStep& step = out.steps.emplace_back();
    step.ix = ix;
    step.expected_micros = input.micros[ix];
    step.samples = samples[ix];
    step.starts_micros = estimate.starts[ix];
    step.critical = critical[ix];
    if (native && !out.whole && look.what != StepLook::What::kHit && !graph.IsGroup(ix)) {
      ASSIGN_OR_RETURN(step.native, NativeOf(*run, ix));
    }
    switch (look.what) {
      case StepLook::What::kNotCached:
        step.text = NotCachedWords(graph.SpecOf(ix), run->header.use_cache);
        break;
      case StepLook::What::kHit:
        step.action = PlannedStep::Action::kCached;
        step.cached_from = look.run_name;
        step.text = absl::StrCat("from run `", look.run_name, "`");
        break;
      case StepLook::What::kDepends:
        step.action = PlannedStep::Action::kDepends;
        step.text = DependsWords(graph, *expected, ix);
        break;
      case StepLook::What::kMiss:
        if (look.verdict == CacheVerdict::kNoEntry && compared < kMostCompared) {
          ++compared;
          ASSIGN_OR_RETURN(const auto entry,
                           queries_->NewestCacheEntry(command.project, name, graph.StepName(ix), now, 0));
          if (entry.has_value()) {
            step.compared_with = entry->run_name;
            step.changes = ChangedParts(entry->parts_json, look.parts_json);
          }
        }
        step.text = MissWords(look, step);
        break;
    }
  }
  out.graph = expected;  // it has the names of all
  return out;
}

}  // namespace orch
