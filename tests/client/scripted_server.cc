#include "tests/client/scripted_server.h"

#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include "server/base/check.h"

namespace orch::client {

grpc::Status WireError(grpc::StatusCode code, const std::string& reason, const std::string& message,
                       const std::vector<Violation>& violations, int64_t retry_ms) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("orchd");
  status.add_details()->PackFrom(info);
  google::rpc::BadRequest bad;
  for (const Violation& v : violations) {
    auto* out = bad.add_field_violations();
    out->set_field(v.field);
    out->set_description(v.description);
    out->set_reason(v.reason);
  }
  if (!violations.empty()) status.add_details()->PackFrom(bad);
  if (retry_ms > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(retry_ms % 1000 * 1'000'000));
    status.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, status.SerializeAsString());
}

namespace {

grpc::Status CheckToken(const grpc::ServerContext& context, const std::string& token) {
  if (token.empty()) return grpc::Status::OK;
  const auto it = context.client_metadata().find("authorization");
  const std::string want = "Bearer " + token;
  if (it != context.client_metadata().end() && std::string(it->second.data(), it->second.size()) == want) {
    return grpc::Status::OK;
  }
  return WireError(grpc::StatusCode::UNAUTHENTICATED, "TOKEN_INVALID", "the token is not valid");
}

}  // namespace

// One line for each call: check the token, run the handler.
#define UNARY(Name, handler, Request, Response)                                                                        \
  grpc::Status Name(grpc::ServerContext* context, const v1::Request* request, v1::Response* response) override {       \
    if (grpc::Status s = CheckToken(*context, owner->token_); !s.ok()) return s;                                       \
    return owner->handler ? owner->handler(*request, response) : grpc::Status(grpc::StatusCode::UNIMPLEMENTED, #Name); \
  }
#define STREAM(Name, handler, Request, Response)                                                            \
  grpc::Status Name(grpc::ServerContext* context, const v1::Request* request,                               \
                    grpc::ServerWriter<v1::Response>* writer) override {                                    \
    if (grpc::Status s = CheckToken(*context, owner->token_); !s.ok()) return s;                            \
    if (!owner->handler) return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, #Name);                       \
    return owner->handler(*request, context, [writer](const v1::Response& m) { return writer->Write(m); }); \
  }

struct ScriptedServer::Services {
  explicit Services(ScriptedServer* s) : runs(s), logs(s), pipelines(s), artifacts(s), orchestrators(s), admin(s) {}

  struct Runs : v1::RunService::Service {
    explicit Runs(ScriptedServer* s) : owner(s) {}
    UNARY(SubmitRun, submit_run, SubmitRunRequest, Run)
    UNARY(GetRun, get_run, GetRunRequest, Run)
    UNARY(ListRuns, list_runs, ListRunsRequest, ListRunsResponse)
    UNARY(WaitRun, wait_run, WaitRunRequest, Run)
    UNARY(CancelRun, cancel_run, CancelRunRequest, Run)
    UNARY(ListSteps, list_steps, ListStepsRequest, ListStepsResponse)
    UNARY(GetStep, get_step, GetStepRequest, Step)
    STREAM(WatchRuns, watch_runs, WatchRunsRequest, WatchRunsResponse)
    ScriptedServer* owner;
  } runs;
  struct Logs : v1::LogService::Service {
    explicit Logs(ScriptedServer* s) : owner(s) {}
    UNARY(ReadLogs, read_logs, ReadLogsRequest, ReadLogsResponse)
    STREAM(TailLogs, tail_logs, TailLogsRequest, TailLogsResponse)
    ScriptedServer* owner;
  } logs;
  struct Pipelines : v1::PipelineService::Service {
    explicit Pipelines(ScriptedServer* s) : owner(s) {}
    UNARY(ValidatePipeline, validate_pipeline, ValidatePipelineRequest, ValidatePipelineResponse)
    ScriptedServer* owner;
  } pipelines;
  struct Artifacts : v1::ArtifactService::Service {
    explicit Artifacts(ScriptedServer* s) : owner(s) {}
    UNARY(GetArtifact, get_artifact, GetArtifactRequest, Artifact)
    UNARY(ListArtifacts, list_artifacts, ListArtifactsRequest, ListArtifactsResponse)
    UNARY(ReadArtifact, read_artifact, ReadArtifactRequest, ReadArtifactResponse)
    ScriptedServer* owner;
  } artifacts;
  struct Orchestrators : v1::OrchestratorService::Service {
    explicit Orchestrators(ScriptedServer* s) : owner(s) {}
    UNARY(ListFlavors, list_flavors, ListFlavorsRequest, ListFlavorsResponse)
    UNARY(DescribeFlavor, describe_flavor, DescribeFlavorRequest, Flavor)
    UNARY(RegisterOrchestrator, register_orchestrator, RegisterOrchestratorRequest, Orchestrator)
    UNARY(UpdateOrchestrator, update_orchestrator, UpdateOrchestratorRequest, Orchestrator)
    UNARY(ListOrchestrators, list_orchestrators, ListOrchestratorsRequest, ListOrchestratorsResponse)
    UNARY(SetPool, set_pool, SetPoolRequest, Pool)
    UNARY(ListPools, list_pools, ListPoolsRequest, ListPoolsResponse)
    UNARY(ListStacks, list_stacks, ListStacksRequest, ListStacksResponse)
    UNARY(SetStack, set_stack, SetStackRequest, Stack)
    ScriptedServer* owner;
  } orchestrators;
  struct Admin : v1::AdminService::Service {
    explicit Admin(ScriptedServer* s) : owner(s) {}
    UNARY(GetServerInfo, get_server_info, GetServerInfoRequest, ServerInfo)
    UNARY(CreateSignInLink, create_sign_in_link, CreateSignInLinkRequest, SignInLink)
    ScriptedServer* owner;
  } admin;
};

ScriptedServer::ScriptedServer(const std::string& address, const std::string& token)
    : token_(token), services_(std::make_unique<Services>(this)) {
  const bool socket = absl::StartsWith(address, "unix:");
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(address, grpc::experimental::LocalServerCredentials(socket ? UDS : LOCAL_TCP), &port);
  builder.RegisterService(&services_->runs);
  builder.RegisterService(&services_->logs);
  builder.RegisterService(&services_->pipelines);
  builder.RegisterService(&services_->artifacts);
  builder.RegisterService(&services_->orchestrators);
  builder.RegisterService(&services_->admin);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = socket ? address : absl::StrCat("127.0.0.1:", port);
}

ScriptedServer::~ScriptedServer() { Stop(); }

void ScriptedServer::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

}  // namespace orch::client
