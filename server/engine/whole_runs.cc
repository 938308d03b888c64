#include "server/engine/whole_runs.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/core/rules.h"
#include "server/core/upstreams.h"

namespace orch {
namespace {

constexpr absl::string_view kTask = "task-";  // no attempt's key begins so
constexpr int kMostRows = 1'000'000;          // all

std::string TaskKey(RunKey run, StepIx ix) { return absl::StrCat(kTask, run, "-", ix); }

}  // namespace

std::vector<std::string> WhyStepByStep(const Graph& graph, const RunHeader& header) {
  std::vector<std::string> why;
  const auto& steps = graph.spec().steps;
  const auto say = [&](uint32_t t, absl::string_view what) {
    why.push_back(absl::StrCat("step `", steps[t].name, "` ", what));
  };
  // Who waits for a slot would hold a place on the platform, which who has the slot may need.
  if (header.max_parallel > 0) why.emplace_back("max_parallel is for the daemon to keep");
  for (uint32_t t = 0; t < steps.size(); ++t) {
    const StepTemplate& step = graph.templates()[t];
    if (step.removed) continue;
    const StepOptions& options = steps[t].options();
    if (!options.orchestrator.empty() && options.orchestrator != header.orchestrator) say(t, "is for another one");
    if (step.at_run_time()) say(t, "fans out over what is known only when it runs");
    if (!options.pools.empty()) say(t, "needs slots of a pool");
    const auto early = [](const InputSpec& input) { return input.early; };
    if (std::any_of(steps[t].inputs.begin(), steps[t].inputs.end(), early)) say(t, "reads an input early");
  }
  return why;
}

absl::string_view PlaceOfLauncher(absl::string_view launcher) {
  const size_t at = launcher.find('@');
  return at == absl::string_view::npos ? absl::string_view() : launcher.substr(at + 1);
}

std::vector<std::string> WholeRuns::WhyNot(const RunContext& run, const std::string& flavor,
                                           const Backend& backend) const {
  std::vector<std::string> why = WhyStepByStep(*run.graph, run.header);
  if (!why.empty()) return why;
  if (std::string too_much = backend.WhyNotWhole(Skeleton(run, flavor, {})); !too_much.empty()) {
    why.push_back(std::move(too_much));
  }
  return why;
}

RunOutline WholeRuns::Skeleton(const RunContext& run, const std::string& flavor, const std::vector<bool>& done) const {
  const Graph& graph = *run.graph;
  RunOutline out;
  out.key = AttemptKey(instance_, absl::StrCat(run.header.id, "/run"), static_cast<uint32_t>(run.generation), 1);
  out.project = run.header.project;
  out.run_id = run.header.id;
  out.run_name = run.header.name;
  out.pipeline = run.header.pipeline;
  out.generation = run.generation;
  out.stops_at_failure = run.header.execution_mode != ExecutionMode::kContinueOnFailure;
  std::vector<size_t> places(graph.step_count(), SIZE_MAX);
  for (StepIx ix = 0; ix < graph.step_count(); ++ix) {
    if (!graph.Has(ix) || (ix < done.size() && done[ix])) continue;
    const StepOptions& options = graph.SpecOf(ix).options();
    places[ix] = out.tasks.size();
    RunTask& task = out.tasks.emplace_back();
    task.step_index = ix;
    task.step = graph.StepName(ix);
    task.starts = options.retry.max_attempts;
    task.resources = options.resources;
    task.image = options.image;
    for (const auto& [of, settings] : options.settings) {
      if (of == flavor) task.settings_json = settings;
    }
  }
  for (RunTask& task : out.tasks) {
    std::set<size_t> after;
    for (const Upstream& upstream : UpstreamsOf(graph, task.step_index)) {
      for (const StepRange& range : upstream.steps) {
        for (StepIx up = range.first; up < range.first + range.count; ++up) {
          if (places[up] != SIZE_MAX) after.insert(places[up]);
        }
      }
    }
    task.after.assign(after.begin(), after.end());
  }
  return out;
}

absl::StatusOr<RunOutline> WholeRuns::OutlineOf(const RunContext& run, const std::string& flavor,
                                                const std::string& endpoint) const {
  store::StepFilter ended;
  ended.states = {StepState::kSucceeded, StepState::kCached, StepState::kFailed, StepState::kCancelled,
                  StepState::kSkipped};
  ASSIGN_OR_RETURN(const std::vector<StepRow> rows, queries_.ListSteps(run.header.key, ended, 0, kMostRows));
  std::vector<bool> done(run.graph->step_count(), false);
  for (const StepRow& row : rows) done[row.ix] = true;
  RunOutline out = Skeleton(run, flavor, done);
  out.env = EnvOf(run, endpoint);
  for (RunTask& task : out.tasks) task.token = tokens_.Of(TaskKey(run.header.key, task.step_index));
  return out;
}

RunOutline WholeRuns::Sketch(const RunContext& run, const std::string& flavor, const std::string& endpoint,
                             const std::vector<bool>& done) const {
  RunOutline out = Skeleton(run, flavor, done);
  out.key = kNoKey;
  out.env = EnvOf(run, endpoint);
  for (RunTask& task : out.tasks) task.token = kSecretShown;
  return out;
}

std::vector<std::pair<std::string, std::string>> WholeRuns::EnvOf(const RunContext& run,
                                                                  const std::string& endpoint) const {
  std::vector<std::pair<std::string, std::string>> out = {{"ORCH_ENDPOINT", endpoint},
                                                          {"ORCH_RUN_NAME", run.header.name}};
  if (endpoint == options_.far_step_endpoint && !options_.step_ca.empty()) {
    out.emplace_back("ORCH_CA_PEM", options_.step_ca);
  }
  return out;
}

std::optional<TaskIdentity> WholeRuns::TaskOf(absl::string_view token) const {
  const std::optional<std::string> key = tokens_.KeyOf(token);
  if (!key.has_value() || !absl::StartsWith(*key, kTask)) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(absl::StripPrefix(*key, kTask), '-');
  TaskIdentity out;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &out.run) || !absl::SimpleAtoi(parts[1], &out.ix)) {
    return std::nullopt;
  }
  return out;
}

absl::StatusOr<NextAttempt> WholeRuns::Next(const TaskIdentity& task, absl::string_view launcher,
                                            const std::function<bool(const std::string& key)>& live) const {
  NextAttempt out;
  ASSIGN_OR_RETURN(const store::RunRecord run, queries_.GetRun(task.run));
  ASSIGN_OR_RETURN(const std::optional<StepRow> step, queries_.GetStep(task.run, task.ix));
  if (step.has_value() && IsTerminal(step->state)) {
    out.what = NextAttempt::What::kOver;
    out.state = step->state;
    out.reason = step->reason;
    out.message = step->message;
    return out;
  }
  if (IsTerminal(run.row.state)) {  // a step that has no row never began
    out.what = NextAttempt::What::kOver;
    out.state = StepState::kCancelled;
    out.message = absl::StrCat("the run is ", Name(run.row.state));
    return out;
  }
  const bool started =
      step.has_value() && (step->state == StepState::kSubmitting || step->state == StepState::kQueued ||
                           step->state == StepState::kRunning || step->state == StepState::kStopping);
  if (!started) return out;
  std::string key = AttemptKey(instance_, run.header.id, task.ix, step->attempt);
  if (!live(key)) return out;
  const std::string other = deliveries_.LauncherOf(key);
  if (!other.empty() && other != launcher) return out;  // it is at its end, or the platform started the task twice
  out.what = NextAttempt::What::kAttempt;
  out.attempt = step->attempt;
  out.token = tokens_.Of(key);
  out.key = std::move(key);
  return out;
}

}  // namespace orch
