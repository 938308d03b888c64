#include "server/rpc/submit.h"

#include <google/protobuf/util/field_mask_util.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

// What a repeat under the same request_id must be equal in: everything but the id itself. The pipeline comes in as its
// bytes, which are made anyway.
std::string FingerprintOf(const v1::SubmitRunRequest& request, absl::string_view spec_bytes) {
  google::protobuf::FieldMask mask;
  const google::protobuf::Descriptor* descriptor = v1::SubmitRunRequest::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const int number = descriptor->field(i)->number();
    if (number != v1::SubmitRunRequest::kPipelineFieldNumber && number != v1::SubmitRunRequest::kRequestIdFieldNumber) {
      mask.add_paths(descriptor->field(i)->name());
    }
  }
  v1::SubmitRunRequest rest;
  google::protobuf::util::FieldMaskUtil::MergeMessageTo(request, mask,
                                                        google::protobuf::util::FieldMaskUtil::MergeOptions(), &rest);
  Sha256 sum;
  sum.Update(SerializeDeterministic(rest));
  if (request.has_pipeline()) sum.Update(spec_bytes);
  return sum.Finish();
}

void SetSubmitter(const v1::SubmitRunRequest::Submitter& submitter, SubmitCommand* command, Checks* checks) {
  static const std::set<std::string> kTaken = {"PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV"};
  checks->Text("request.submitter.host", submitter.host(), 1000);
  checks->Text("request.submitter.source_dir", submitter.source_dir(), 4096);
  if (!submitter.source_dir().empty() && submitter.source_dir()[0] != '/') {
    checks->Add("request.submitter.source_dir", "WRONG_TYPE", "it is no absolute path");
  }
  command->submitter_host = submitter.host();
  command->source_dir = submitter.source_dir();
  for (const auto& [name, value] : submitter.environment()) {
    if (kTaken.count(name) == 0) continue;
    checks->Text(absl::StrCat("request.submitter.environment.", name), value, 64 << 10);
    command->environment.emplace_back(name, value);
  }
  std::sort(command->environment.begin(), command->environment.end());
}

}  // namespace

std::map<std::string, std::string> ToParameters(
    const google::protobuf::Map<std::string, google::protobuf::Value>& parameters, const Limits& limits,
    Checks* checks) {
  std::map<std::string, std::string> out;
  checks->Count("request.parameters", static_cast<int64_t>(parameters.size()), 1000);
  if (parameters.size() > 1000) return out;
  for (const auto& [name, value] : parameters) {
    const std::string field = absl::StrCat("request.parameters.", name.substr(0, 200));
    checks->Name(field, name, /*dots=*/false);
    checks->Json(field, value);
    std::string json = ToJson(value);
    checks->Text(field, json, static_cast<size_t>(limits.value_bytes));
    out.emplace(name, std::move(json));
  }
  return out;
}

absl::StatusOr<SubmitCommand> ToSubmitCommand(const ApiContext& api, const v1::SubmitRunRequest& request) {
  const Limits& limits = api.engine->limits();
  SubmitCommand command;
  Checks checks;
  checks.Project(request.project());
  if (!request.name().empty()) checks.Name("request.name", request.name(), /*dots=*/true);
  if (!request.orchestrator().empty()) checks.Name("request.orchestrator", request.orchestrator(), /*dots=*/true);
  command.name = request.name();
  command.orchestrator = request.orchestrator();
  if (!request.stack().empty()) checks.Name("request.stack", request.stack(), /*dots=*/true);
  command.stack = request.stack();
  command.parameters_json = ToParameters(request.parameters(), limits, &checks);
  checks.Labels("request.labels", request.labels(), limits.labels);
  command.labels.assign(request.labels().begin(), request.labels().end());
  std::sort(command.labels.begin(), command.labels.end());
  checks.Range("request.priority", int64_t{request.priority()}, -1000, 1000);
  command.priority = request.priority();
  checks.RequestId(request.request_id());
  command.request_id = request.request_id();
  command.validate_only = request.validate_only();
  SetSubmitter(request.submitter(), &command, &checks);
  if (!v1::Pipeline::ExecutionMode_IsValid(request.execution_mode())) {
    checks.Add("request.execution_mode", "WRONG_TYPE",
               absl::StrCat(static_cast<int>(request.execution_mode()), " is none of the words of this field"));
  } else if (request.execution_mode() != 0) {
    command.execution_mode = static_cast<ExecutionMode>(request.execution_mode());
  }
  checks.Range("request.max_parallel", int64_t{request.max_parallel()}, 0, 1'000'000);
  command.max_parallel = request.max_parallel();
  if (request.has_timeout()) {
    command.timeout_micros = checks.Duration("request.timeout", request.timeout(), 1000);
  }
  command.use_cache = request.has_use_cache() ? request.use_cache() : true;

  const bool request_ok = checks.ok();
  switch (request.source_case()) {
    case v1::SubmitRunRequest::kPipeline:
      command.spec_bytes = SerializeDeterministic(request.pipeline());
      command.spec_digest = Sha256Of(command.spec_bytes);
      // What it has compiled before needs no second look.
      command.known = api.engine->FindCompiled(command.project, request.pipeline().name(), command.spec_digest);
      if (command.known == nullptr) command.spec = ToSpec(request.pipeline(), limits, &checks);
      break;
    case v1::SubmitRunRequest::kPipelineRef: {
      checks.Name("request.pipeline_ref.name", request.pipeline_ref().name(), /*dots=*/true);
      if (!checks.ok()) break;
      ASSIGN_OR_RETURN(const PipelineRow row,
                       api.engine->queries().FindPipeline("default", request.pipeline_ref().name(),
                                                          request.pipeline_ref().version()));
      ASSIGN_OR_RETURN(command.spec_bytes, api.engine->queries().ReadSpec(row.digest));
      ASSIGN_OR_RETURN(command.spec, ParseSpec(command.spec_bytes));
      break;
    }
    case v1::SubmitRunRequest::SOURCE_NOT_SET:
      checks.Add("request.pipeline", "REQUIRED", "a submission needs `pipeline` or `pipeline_ref`");
      break;
  }
  if (!checks.ok()) {
    if (!request_ok || request.source_case() != v1::SubmitRunRequest::kPipeline) {
      return checks.ToStatus("REQUEST_INVALID", "the submission cannot be used");
    }
    return checks.ToStatus("PIPELINE_INVALID", "the pipeline cannot be used");
  }
  command.fingerprint = FingerprintOf(request, command.spec_bytes);
  return command;
}

}  // namespace orch::rpc
