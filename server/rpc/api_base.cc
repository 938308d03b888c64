#include "server/rpc/api_base.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/checks.h"

namespace orch::rpc {

absl::StatusOr<std::string> ProjectOf(absl::string_view project) {
  Checks checks;
  checks.Project(project);
  RETURN_IF_ERROR(checks.ToStatus("PROJECT_NOT_FOUND", "project"));
  return std::string("default");
}

absl::StatusOr<store::RunRecord> FindRun(const ApiContext& api, const CallContext& context, absl::string_view project,
                                         absl::string_view name) {
  ASSIGN_OR_RETURN(const std::string known, ProjectOf(project));
  if (name.empty()) {
    return InvalidInput("NAME_REQUIRED", "which run? give its name or id",
                        {{"request.name", "a run's name or id is needed", "REQUIRED"}});
  }
  ASSIGN_OR_RETURN(store::RunRecord record, api.engine->queries().FindRun(known, name));
  if (context.identity.kind == Identity::Kind::kStep && context.identity.attempt.run != record.header.key) {
    return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN", "a step's own token reads only its own run");
  }
  return record;
}

absl::StatusOr<FoundRun> FindRunWithGraph(const ApiContext& api, const CallContext& context, absl::string_view project,
                                          absl::string_view name) {
  FoundRun found;
  ASSIGN_OR_RETURN(found.record, FindRun(api, context, project, name));
  ASSIGN_OR_RETURN(found.run_graph, api.engine->LoadGraph(found.record.header));
  return found;
}

absl::StatusOr<StepIx> FindStep(const FoundRun& run, absl::string_view name) {
  if (name.empty()) {
    return InvalidInput("NAME_REQUIRED", "which step? give its name",
                        {{"request.step", "a step's name is needed", "REQUIRED"}});
  }
  if (const std::optional<StepIx> ix = run.graph().FindStep(name)) return *ix;
  std::string hint;
  const Graph& graph = run.graph();
  for (uint32_t t = 0; t < graph.templates().size(); ++t) {
    const std::string& candidate = graph.spec().steps[t].name;
    if (candidate == name && graph.templates()[t].fan_out) {
      hint = absl::StrCat("; it is a fan-out of ", graph.templates()[t].count, ", name one as `", name, "[0]`");
      break;
    }
    if (hint.empty() && (absl::StartsWith(candidate, name) || absl::EqualsIgnoreCase(candidate, name))) {
      hint = absl::StrCat("; did you mean `", candidate, "`?");
    }
  }
  return Error(absl::StatusCode::kNotFound, "STEP_NOT_FOUND",
               absl::StrCat("run `", run.record.header.name, "` has no step ", Quoted(name), hint));
}

}  // namespace orch::rpc
