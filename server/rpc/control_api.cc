#include "server/rpc/control_api.h"

#include <utility>
#include <vector>

#include "server/base/digest.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/convert_rows.h"

namespace orch::rpc {
namespace {

// What a repeat under the same request_id must be equal in: all but the id itself.
template <typename Request>
RequestRow RequestRowOf(absl::string_view method, const std::string& project, Request request) {
  RequestRow row;
  row.method = std::string(method);
  row.project = project;
  row.request_id = request.request_id();
  request.clear_request_id();
  row.fingerprint = Sha256Of(SerializeDeterministic(request));
  return row;
}

}  // namespace

void ControlApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  table->Add("orch.v1.RunService/CancelRun", mutation, this, &ControlApi::CancelRun);
  table->Add("orch.v1.RunService/DeleteRun", mutation, this, &ControlApi::DeleteRun);
}

absl::Status ControlApi::CancelRun(const CallContext& context, const v1::CancelRunRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Count("request.steps", request.steps_size(), 10'000);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was cancelled"));
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.name()));
  std::vector<StepIx> steps;
  for (const std::string& name : request.steps()) {
    ASSIGN_OR_RETURN(const StepIx ix, FindStep(found, name));
    steps.push_back(ix);
  }
  RETURN_IF_ERROR(
      api_.engine->CancelRun(found.record.header.key, std::move(steps), request.force(), context.deadline_micros));
  ASSIGN_OR_RETURN(const store::RunRecord record, api_.engine->queries().GetRun(found.record.header.key));
  *run = ToRun(record, api_.facts->pages());
  return absl::OkStatus();
}

absl::Status ControlApi::DeleteRun(const CallContext& context, const v1::DeleteRunRequest& request,
                                   v1::DeleteRunResponse*) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was deleted"));
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  const RequestRow row = RequestRowOf("DeleteRun", project, request);
  ASSIGN_OR_RETURN(const auto answered, api_.engine->FindAnswer(row));
  if (answered.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  return api_.engine->DeleteRuns({record.header.key}, row, context.deadline_micros);
}

}  // namespace orch::rpc
