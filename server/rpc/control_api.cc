#include "server/rpc/control_api.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/asked.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/submit.h"

namespace orch::rpc {
namespace {

constexpr int64_t kMostSteps = 10'000;  // named in one call

// Of the instances of a fan-out, `train[*]`; otherwise one.
absl::Status AddSteps(const FoundRun& run, const std::string& name, std::vector<StepIx>* out) {
  if (absl::EndsWith(name, "[*]")) {
    const Graph& graph = run.graph();
    for (uint32_t t = 0; t < graph.templates().size(); ++t) {
      const StepTemplate& step = graph.templates()[t];
      if (!step.fan_out || graph.spec().steps[t].name != name.substr(0, name.size() - 3)) continue;
      for (uint32_t i = 0; i < step.count; ++i) out->push_back(step.at(i));
      return absl::OkStatus();
    }
  }
  ASSIGN_OR_RETURN(const StepIx ix, FindStep(run, name));
  out->push_back(ix);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StepIx>> FindSteps(const FoundRun& run,
                                              const google::protobuf::RepeatedPtrField<std::string>& names) {
  std::vector<StepIx> out;
  for (const std::string& name : names) RETURN_IF_ERROR(AddSteps(run, name, &out));
  return out;
}

}  // namespace

void ControlApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  table->Add("orch.v1.RunService/CancelRun", mutation, this, &ControlApi::CancelRun);
  table->Add("orch.v1.RunService/PauseRun", mutation, this, &ControlApi::PauseRun);
  table->Add("orch.v1.RunService/ResumeRun", mutation, this, &ControlApi::ResumeRun);
  table->Add("orch.v1.RunService/SkipStep", mutation, this, &ControlApi::SkipStep);
  table->Add("orch.v1.RunService/RetryRun", mutation, this, &ControlApi::RetryRun);
  table->Add("orch.v1.RunService/SendHeartbeat", {/*mutates=*/false, /*for_steps=*/true, /*waits=*/false}, this,
             &ControlApi::SendHeartbeat);
  table->Add("orch.v1.RunService/DeleteRun", mutation, this, &ControlApi::DeleteRun);
}

absl::Status ControlApi::CancelRun(const CallContext& context, const v1::CancelRunRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Count("request.steps", request.steps_size(), kMostSteps);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was cancelled"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("CancelRun", request));
  if (asked.answer.has_value()) return AnswerAgain(asked, run);
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.name()));
  ASSIGN_OR_RETURN(std::vector<StepIx> steps, FindSteps(found, request.steps()));
  RETURN_IF_ERROR(api_.engine->CancelRun(found.record.header.key, std::move(steps), request.force(), std::move(asked),
                                         context.deadline_micros));
  return Answer(found.record.header.key, run);
}

template <typename Request>
absl::StatusOr<Asked> ControlApi::AskOfRun(absl::string_view method, const Request& request) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  return api_.engine->Ask(RequestRowOf(method, project, request));
}

absl::Status ControlApi::AnswerAgain(const Asked& asked, v1::Run* run) {
  RunKey key = 0;
  if (!absl::SimpleAtoi(*asked.answer, &key)) return absl::InternalError("the answer of a call cannot be read");
  return Answer(key, run);
}

absl::Status ControlApi::Answer(RunKey key, v1::Run* run) {
  ASSIGN_OR_RETURN(const store::RunRecord record, api_.engine->queries().GetRun(key));
  *run = ToRun(record, api_.facts->pages());
  return absl::OkStatus();
}

absl::Status ControlApi::PauseRun(const CallContext& context, const v1::PauseRunRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was paused"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("PauseRun", request));
  if (asked.answer.has_value()) return AnswerAgain(asked, run);
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  if (IsTerminal(record.row.state)) {
    return Error(absl::StatusCode::kFailedPrecondition, "RUN_ENDED",
                 absl::StrCat("run `", record.header.name, "` has ended ", Name(record.row.state),
                              ": there is nothing to pause"));
  }
  RETURN_IF_ERROR(api_.engine->PauseRun(record.header.key, std::move(asked), context.deadline_micros));
  return Answer(record.header.key, run);
}

absl::Status ControlApi::ResumeRun(const CallContext& context, const v1::ResumeRunRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was resumed"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("ResumeRun", request));
  if (asked.answer.has_value()) return AnswerAgain(asked, run);
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  if (IsTerminal(record.row.state)) {
    return Error(absl::StatusCode::kFailedPrecondition, "RUN_ENDED",
                 absl::StrCat("run `", record.header.name, "` has ended ", Name(record.row.state),
                              record.row.state == RunState::kSucceeded ? "; submit it anew" : "; use retry-run"));
  }
  RETURN_IF_ERROR(api_.engine->ResumeRun(record.header.key, std::move(asked), context.deadline_micros));
  return Answer(record.header.key, run);
}

absl::Status ControlApi::SkipStep(const CallContext& context, const v1::SkipStepRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Count("request.steps", request.steps_size(), kMostSteps);
  if (request.steps().empty()) checks.Add("request.steps", "REQUIRED", "name at least one step");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was skipped"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("SkipStep", request));
  if (asked.answer.has_value()) return AnswerAgain(asked, run);
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.run()));
  ASSIGN_OR_RETURN(std::vector<StepIx> steps, FindSteps(found, request.steps()));
  RETURN_IF_ERROR(
      api_.engine->SkipSteps(found.record.header.key, std::move(steps), std::move(asked), context.deadline_micros));
  return Answer(found.record.header.key, run);
}

absl::Status ControlApi::RetryRun(const CallContext& context, const v1::RetryRunRequest& request, v1::Run* run) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Count("request.steps", request.steps_size(), kMostSteps);
  RetryCommand command;
  command.parameters_json = ToParameters(request.parameters(), api_.engine->limits(), &checks);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was retried"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("RetryRun", request));
  if (asked.answer.has_value()) return AnswerAgain(asked, run);
  ASSIGN_OR_RETURN(const FoundRun found, FindRunWithGraph(api_, context, request.project(), request.name()));
  if (request.has_pipeline()) {
    Checks spec_checks;
    command.spec = ToSpec(request.pipeline(), api_.engine->limits(), &spec_checks);
    RETURN_IF_ERROR(spec_checks.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used"));
    command.spec_bytes = SerializeDeterministic(request.pipeline());
  }
  ASSIGN_OR_RETURN(command.steps, FindSteps(found, request.steps()));
  command.run = found.record.header.key;
  if (request.has_use_cache()) command.use_cache = request.use_cache();
  RETURN_IF_ERROR(api_.engine->RetryRun(std::move(command), std::move(asked), context.deadline_micros));
  return Answer(found.record.header.key, run);
}

absl::Status ControlApi::SendHeartbeat(const CallContext& context, const v1::SendHeartbeatRequest&,
                                       v1::SendHeartbeatResponse*) {
  if (context.identity.kind != Identity::Kind::kStep) {
    return Error(absl::StatusCode::kPermissionDenied, "STEP_TOKEN",
                 "a heartbeat is a step's own word: send it with the token in ORCH_TOKEN");
  }
  api_.engine->NoteHeartbeat(context.identity.attempt);
  return absl::OkStatus();
}

absl::Status ControlApi::DeleteRun(const CallContext& context, const v1::DeleteRunRequest& request,
                                   v1::DeleteRunResponse*) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was deleted"));
  ASSIGN_OR_RETURN(Asked asked, AskOfRun("DeleteRun", request));
  if (asked.answer.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.name()));
  return api_.engine->DeleteRuns({record.header.key}, std::move(asked), context.deadline_micros);
}

}  // namespace orch::rpc
