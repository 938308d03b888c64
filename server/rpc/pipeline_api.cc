#include "server/rpc/pipeline_api.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/submit.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {

void PipelineApi::Register(MethodTable* table) {
  table->Add("orch.v1.PipelineService/ValidatePipeline", {}, this, &PipelineApi::ValidatePipeline);
  table->Add("orch.v1.PipelineService/RegisterPipeline", {/*mutates=*/true, false, false}, this,
             &PipelineApi::RegisterPipeline);
  table->Add("orch.v1.PipelineService/GetPipeline", {}, this, &PipelineApi::GetPipeline);
  table->Add("orch.v1.PipelineService/ListPipelines", {}, this, &PipelineApi::ListPipelines);
  table->Add("orch.v1.PipelineService/ListPipelineVersions", {}, this, &PipelineApi::ListPipelineVersions);
}

absl::Status PipelineApi::ValidatePipeline(const CallContext& context, const v1::ValidatePipelineRequest& request,
                                           v1::ValidatePipelineResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  SubmitCommand command;
  command.project = project;
  command.validate_only = true;
  command.orchestrator = request.orchestrator();
  if (!request.stack().empty()) checks.Name("request.stack", request.stack(), /*dots=*/true);
  command.stack = request.stack();
  if (!request.orchestrator().empty()) checks.Name("request.orchestrator", request.orchestrator(), /*dots=*/true);
  command.parameters_json = ToParameters(request.parameters(), api_.engine->limits(), &checks);
  command.spec = ToSpec(request.pipeline(), api_.engine->limits(), &checks);
  if (!checks.ok()) {
    // What the engine checks needs sound fields.
    AddViolations(checks.violations(), response->mutable_violations());
    return absl::OkStatus();
  }
  command.spec_bytes = SerializeDeterministic(request.pipeline());
  context.let_go();
  ASSIGN_OR_RETURN(const CheckedPipeline checked, api_.engine->CheckPipeline(command));
  AddViolations(checked.violations, response->mutable_violations());
  AddViolations(checked.warnings, response->mutable_warnings());
  if (checked.violations.empty()) response->set_step_count(checked.step_count);
  return absl::OkStatus();
}

absl::Status PipelineApi::RegisterPipeline(const CallContext& context, const v1::RegisterPipelineRequest& request,
                                           v1::PipelineVersion* version) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was stored"));
  SubmitCommand command;
  command.project = project;
  command.spec = ToSpec(request.pipeline(), api_.engine->limits(), &checks);
  RETURN_IF_ERROR(checks.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used"));
  command.spec_bytes = SerializeDeterministic(request.pipeline());
  command.request_id = request.request_id();
  context.let_go();
  command.fingerprint = Sha256Of(command.spec_bytes);
  ASSIGN_OR_RETURN(const PipelineRow row, api_.engine->RegisterPipeline(std::move(command), context.deadline_micros));
  *version = ToPipelineVersion(row);
  return absl::OkStatus();
}

absl::Status PipelineApi::GetPipeline(const CallContext&, const v1::GetPipelineRequest& request,
                                      v1::PipelineVersion* version) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const PipelineRow row,
                   api_.engine->queries().FindPipeline(project, request.name(), request.version()));
  ASSIGN_OR_RETURN(const std::string bytes, api_.engine->queries().ReadSpec(row.digest));
  *version = ToPipelineVersion(row);
  if (!version->mutable_pipeline()->ParseFromString(bytes)) {
    return Error(absl::StatusCode::kDataLoss, "SPEC_CORRUPT", "a stored pipeline cannot be read");
  }
  return absl::OkStatus();
}

absl::Status PipelineApi::ListPipelines(const CallContext&, const v1::ListPipelinesRequest& request,
                                        v1::ListPipelinesResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  const std::string bound = absl::StrCat("pipelines|", project);
  ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), bound));
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListPipelines(project, after, limit + 1));
  for (const PipelineRow& row : rows) {
    if (response->pipelines_size() == limit) {
      response->set_next_page_token(MakePageToken(response->pipelines(limit - 1).name(), bound));
      break;
    }
    *response->add_pipelines() = ToPipelineVersion(row);
  }
  return absl::OkStatus();
}

absl::Status PipelineApi::ListPipelineVersions(const CallContext&, const v1::ListPipelineVersionsRequest& request,
                                               v1::ListPipelineVersionsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  const std::string bound = absl::StrCat("versions|", project, "|", request.name());
  ASSIGN_OR_RETURN(const int64_t before, ReadPageNumber(request.page_token(), bound));
  ASSIGN_OR_RETURN(const auto rows,
                   api_.engine->queries().ListPipelineVersions(project, request.name(), before, limit + 1));
  if (rows.empty() && before == 0) {
    return api_.engine->queries().FindPipeline(project, request.name(), 0).status();  // NOT_FOUND in its own words
  }
  for (const PipelineRow& row : rows) {
    if (response->versions_size() == limit) {
      response->set_next_page_token(MakePageToken(absl::StrCat(response->versions(limit - 1).version()), bound));
      break;
    }
    *response->add_versions() = ToPipelineVersion(row);
  }
  return absl::OkStatus();
}

}  // namespace orch::rpc
