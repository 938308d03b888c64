#include "server/rpc/plan_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/explain_api.h"
#include "server/rpc/submit.h"

namespace orch::rpc {
namespace {

constexpr int64_t kUsualSteps = 10'000;
constexpr int64_t kMostSteps = 1'000'000;
constexpr int64_t kMostNative = 1'000;
constexpr size_t kMostCritical = 100;

}  // namespace

void PlanApi::Register(MethodTable* table) {
  table->Add("orch.v1.PipelineService/PlanRun", {}, this, &PlanApi::PlanRun);
  table->Add("orch.v1.PipelineService/InvalidateCache", {/*mutates=*/true, false, false}, this,
             &PlanApi::InvalidateCache);
}

absl::Status PlanApi::PlanRun(const CallContext& context, const v1::PlanRunRequest& request, v1::PlanRunResponse* out) {
  Checks checks;
  checks.Range("request.max_steps", int64_t{request.max_steps()}, 0, kMostSteps);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was planned"));
  absl::StatusOr<SubmitCommand> command = ToSubmitCommand(api_, request.submission());
  if (!command.ok()) {
    if (ReasonOf(command.status()) != "PIPELINE_INVALID") return command.status();
    AddViolations(ViolationsOf(command.status()), out->mutable_violations());
    return absl::OkStatus();
  }
  int64_t most = request.max_steps() == 0 ? kUsualSteps : request.max_steps();
  const bool native = request.native();
  if (native) most = std::min<int64_t>(most, kMostNative);
  context.let_go();
  ASSIGN_OR_RETURN(const PlannedRun plan, api_.engine->PlanRun(*std::move(command), most, native));
  AddViolations(plan.checked.violations, out->mutable_violations());
  AddViolations(plan.checked.warnings, out->mutable_warnings());
  if (!plan.checked.violations.empty()) return absl::OkStatus();
  out->set_step_count(plan.checked.step_count);
  out->set_cached_steps(plan.cached);
  out->set_run_steps(plan.runs);
  out->set_depending_steps(plan.depends);
  for (const PlannedStep& step : plan.steps) {
    v1::PlannedStep* s = out->add_steps();
    s->set_name(plan.graph->StepName(step.ix));
    s->set_index(step.ix);
    s->set_action(static_cast<v1::PlannedStep::Action>(step.action));
    s->set_text(step.text);
    s->set_cached_from(step.cached_from);
    AddChanges(step.changes, s->mutable_changes());
    s->set_compared_with(step.compared_with);
    if (step.samples > 0) *s->mutable_expected() = ToDuration(step.expected_micros);
    s->set_samples(step.samples);
    *s->mutable_starts_after() = ToDuration(step.starts_micros);
    s->set_critical(step.critical);
    for (const std::string& object : step.native) s->add_native(object);
  }
  if (plan.known > 0 || plan.runs + plan.depends == 0) *out->mutable_expected() = ToDuration(plan.total_micros);
  out->set_known_steps(plan.known);
  for (size_t i = 0; i < std::min(plan.critical.size(), kMostCritical); ++i) {
    out->add_critical_path(plan.graph->StepName(plan.critical[i]));
  }
  out->set_history_runs(plan.history_runs);
  out->set_unit(plan.whole ? "run" : "step");
  for (const std::string& why : plan.why_step_by_step) out->add_why_step_by_step(why);
  for (const std::string& object : plan.native) out->add_native(object);
  return absl::OkStatus();
}

absl::Status PlanApi::InvalidateCache(const CallContext& context, const v1::InvalidateCacheRequest& request,
                                      v1::InvalidateCacheResponse* out) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  checks.Name("request.pipeline", request.pipeline(), /*dots=*/true);
  checks.Text("request.step", request.step(), 300);
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was taken out of the cache"));
  // NOT_FOUND in its own words; entries outlive nothing that would make the pipeline unknown.
  RETURN_IF_ERROR(api_.engine->queries().FindPipeline(project, request.pipeline(), 0).status());
  ASSIGN_OR_RETURN(const int64_t entries,
                   api_.engine->InvalidateCache(project, request.pipeline(), request.step(), request.validate_only(),
                                                request.request_id(), context.deadline_micros));
  out->set_entries(entries);
  return absl::OkStatus();
}

}  // namespace orch::rpc
