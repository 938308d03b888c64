#include "server/rpc/services.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "orch/v1/admin_service.grpc.pb.h"
#include "orch/v1/artifact_service.grpc.pb.h"
#include "orch/v1/auth_service.grpc.pb.h"
#include "orch/v1/log_service.grpc.pb.h"
#include "orch/v1/orchestrator_service.grpc.pb.h"
#include "orch/v1/pipeline_service.grpc.pb.h"
#include "orch/v1/run_service.grpc.pb.h"
#include "orch/v1/secret_service.grpc.pb.h"
#include "server/base/check.h"
#include "server/rpc/errors.h"
#include "server/rpc/grpc_call.h"

namespace orch::rpc {
namespace {

constexpr int64_t kUsualDeadlineMicros = 60'000'000;

class Unary {
 public:
  Unary(const MethodTable* table, Guard* guard) : table_(*table), guard_(*guard) {}

  const Method* Find(absl::string_view name) const {
    const Method* method = table_.Find(name);
    CHECK(method != nullptr);
    return method;
  }

  grpc::Status Serve(const Method* method, grpc::ServerContext* context, google::protobuf::Message* request,
                     google::protobuf::Message* response) const {
    CallContext call;
    absl::StatusOr<Identity> identity = guard_.Identify(TransportOf(*context), AuthorizationOf(*context));
    if (!identity.ok()) {
      method->metrics->Count(identity.status().code(), 0);
      return ToGrpc(Seal(identity.status(), method->name));
    }
    call.identity = *std::move(identity);
    const auto left =
        std::chrono::duration_cast<std::chrono::microseconds>(context->deadline() - std::chrono::system_clock::now());
    call.deadline_micros = std::clamp<int64_t>(left.count(), 0, kUsualDeadlineMicros);
    call.cancelled = [context] { return context->IsCancelled(); };
    return ToGrpc(guard_.Call(*method, std::move(call), request, response));
  }

 private:
  const MethodTable& table_;
  Guard& guard_;
};

// One override that looks its method up once. gRPC has made the request for this call alone, and frees it when all is
// done.
#define ORCH_UNARY(Service, Name, Request, Response)                                                             \
 private:                                                                                                        \
  const Method* method_##Name = unary_.Find("orch.v1." #Service "/" #Name);                                      \
                                                                                                                 \
 public:                                                                                                         \
  grpc::Status Name(grpc::ServerContext* context, const v1::Request* request, v1::Response* response) override { \
    return unary_.Serve(method_##Name, context, const_cast<v1::Request*>(request), response);                    \
  }

class RunServiceImpl : public v1::RunService::WithCallbackMethod_WatchRuns<v1::RunService::Service> {
 public:
  RunServiceImpl(Unary unary, Streams* streams) : unary_(unary), streams_(*streams) {}
  grpc::ServerWriteReactor<v1::WatchRunsResponse>* WatchRuns(grpc::CallbackServerContext* context,
                                                             const v1::WatchRunsRequest* request) override {
    return streams_.WatchRuns(context, request);
  }

 private:
  Unary unary_;
  Streams& streams_;
  ORCH_UNARY(RunService, SubmitRun, SubmitRunRequest, Run)
  ORCH_UNARY(RunService, GetRun, GetRunRequest, Run)
  ORCH_UNARY(RunService, ListRuns, ListRunsRequest, ListRunsResponse)
  ORCH_UNARY(RunService, WaitRun, WaitRunRequest, Run)
  ORCH_UNARY(RunService, CancelRun, CancelRunRequest, Run)
  ORCH_UNARY(RunService, PauseRun, PauseRunRequest, Run)
  ORCH_UNARY(RunService, ResumeRun, ResumeRunRequest, Run)
  ORCH_UNARY(RunService, SkipStep, SkipStepRequest, Run)
  ORCH_UNARY(RunService, RetryRun, RetryRunRequest, Run)
  ORCH_UNARY(RunService, SendHeartbeat, SendHeartbeatRequest, SendHeartbeatResponse)
  ORCH_UNARY(RunService, DeleteRun, DeleteRunRequest, DeleteRunResponse)
  ORCH_UNARY(RunService, ListSteps, ListStepsRequest, ListStepsResponse)
  ORCH_UNARY(RunService, GetStep, GetStepRequest, Step)
  ORCH_UNARY(RunService, ListEvents, ListEventsRequest, ListEventsResponse)
  ORCH_UNARY(RunService, ExplainRun, ExplainRunRequest, Explanation)
  ORCH_UNARY(RunService, CompareRuns, CompareRunsRequest, RunDiff)
};

class PipelineServiceImpl : public v1::PipelineService::Service {
 public:
  explicit PipelineServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(PipelineService, ValidatePipeline, ValidatePipelineRequest, ValidatePipelineResponse)
  ORCH_UNARY(PipelineService, RegisterPipeline, RegisterPipelineRequest, PipelineVersion)
  ORCH_UNARY(PipelineService, GetPipeline, GetPipelineRequest, PipelineVersion)
  ORCH_UNARY(PipelineService, ListPipelines, ListPipelinesRequest, ListPipelinesResponse)
  ORCH_UNARY(PipelineService, ListPipelineVersions, ListPipelineVersionsRequest, ListPipelineVersionsResponse)
  ORCH_UNARY(PipelineService, PlanRun, PlanRunRequest, PlanRunResponse)
  ORCH_UNARY(PipelineService, InvalidateCache, InvalidateCacheRequest, InvalidateCacheResponse)
};

class ArtifactServiceImpl : public v1::ArtifactService::Service {
 public:
  explicit ArtifactServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(ArtifactService, PublishArtifact, PublishArtifactRequest, Artifact)
  ORCH_UNARY(ArtifactService, GetLineage, GetLineageRequest, GetLineageResponse)
  ORCH_UNARY(ArtifactService, GetArtifact, GetArtifactRequest, Artifact)
  ORCH_UNARY(ArtifactService, ListArtifacts, ListArtifactsRequest, ListArtifactsResponse)
  ORCH_UNARY(ArtifactService, ReadArtifact, ReadArtifactRequest, ReadArtifactResponse)
};

class LogServiceImpl : public v1::LogService::WithCallbackMethod_TailLogs<v1::LogService::Service> {
 public:
  LogServiceImpl(Unary unary, Streams* streams) : unary_(unary), streams_(*streams) {}
  grpc::ServerWriteReactor<v1::TailLogsResponse>* TailLogs(grpc::CallbackServerContext* context,
                                                           const v1::TailLogsRequest* request) override {
    return streams_.TailLogs(context, request);
  }

 private:
  Unary unary_;
  Streams& streams_;
  ORCH_UNARY(LogService, ReadLogs, ReadLogsRequest, ReadLogsResponse)
  ORCH_UNARY(LogService, SearchLogs, SearchLogsRequest, SearchLogsResponse)
};

class OrchestratorServiceImpl : public v1::OrchestratorService::Service {
 public:
  explicit OrchestratorServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(OrchestratorService, ListFlavors, ListFlavorsRequest, ListFlavorsResponse)
  ORCH_UNARY(OrchestratorService, DescribeFlavor, DescribeFlavorRequest, Flavor)
  ORCH_UNARY(OrchestratorService, RegisterFlavor, RegisterFlavorRequest, Flavor)
  ORCH_UNARY(OrchestratorService, DeleteFlavor, DeleteFlavorRequest, DeleteFlavorResponse)
  ORCH_UNARY(OrchestratorService, RegisterOrchestrator, RegisterOrchestratorRequest, Orchestrator)
  ORCH_UNARY(OrchestratorService, UpdateOrchestrator, UpdateOrchestratorRequest, Orchestrator)
  ORCH_UNARY(OrchestratorService, GetOrchestrator, GetOrchestratorRequest, Orchestrator)
  ORCH_UNARY(OrchestratorService, ListOrchestrators, ListOrchestratorsRequest, ListOrchestratorsResponse)
  ORCH_UNARY(OrchestratorService, CheckOrchestrator, CheckOrchestratorRequest, CheckOrchestratorResponse)
  ORCH_UNARY(OrchestratorService, DeleteOrchestrator, DeleteOrchestratorRequest, DeleteOrchestratorResponse)
  ORCH_UNARY(OrchestratorService, SetPool, SetPoolRequest, Pool)
  ORCH_UNARY(OrchestratorService, ListPools, ListPoolsRequest, ListPoolsResponse)
  ORCH_UNARY(OrchestratorService, DeletePool, DeletePoolRequest, DeletePoolResponse)
  ORCH_UNARY(OrchestratorService, ListStacks, ListStacksRequest, ListStacksResponse)
  ORCH_UNARY(OrchestratorService, GetStack, GetStackRequest, Stack)
  ORCH_UNARY(OrchestratorService, SetStack, SetStackRequest, Stack)
  ORCH_UNARY(OrchestratorService, DeleteStack, DeleteStackRequest, DeleteStackResponse)
  ORCH_UNARY(OrchestratorService, RegisterArtifactStore, RegisterArtifactStoreRequest, ArtifactStore)
  ORCH_UNARY(OrchestratorService, GetArtifactStore, GetArtifactStoreRequest, ArtifactStore)
  ORCH_UNARY(OrchestratorService, ListArtifactStores, ListArtifactStoresRequest, ListArtifactStoresResponse)
  ORCH_UNARY(OrchestratorService, DeleteArtifactStore, DeleteArtifactStoreRequest, DeleteArtifactStoreResponse)
};

class SecretServiceImpl : public v1::SecretService::Service {
 public:
  explicit SecretServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(SecretService, SetSecret, SetSecretRequest, Secret)
  ORCH_UNARY(SecretService, ListSecrets, ListSecretsRequest, ListSecretsResponse)
  ORCH_UNARY(SecretService, DeleteSecret, DeleteSecretRequest, DeleteSecretResponse)
};

class AuthServiceImpl : public v1::AuthService::Service {
 public:
  explicit AuthServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(AuthService, CreateToken, CreateTokenRequest, CreateTokenResponse)
  ORCH_UNARY(AuthService, ListTokens, ListTokensRequest, ListTokensResponse)
  ORCH_UNARY(AuthService, RevokeToken, RevokeTokenRequest, Token)
};

class AdminServiceImpl : public v1::AdminService::Service {
 public:
  explicit AdminServiceImpl(Unary unary) : unary_(unary) {}

 private:
  Unary unary_;
  ORCH_UNARY(AdminService, GetServerInfo, GetServerInfoRequest, ServerInfo)
  ORCH_UNARY(AdminService, Prune, PruneRequest, PruneResponse)
  ORCH_UNARY(AdminService, CreateBackup, CreateBackupRequest, Backup)
  ORCH_UNARY(AdminService, CreateSignInLink, CreateSignInLinkRequest, SignInLink)
};

#undef ORCH_UNARY

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeServices(const MethodTable* table, Guard* guard, Streams* streams) {
  const Unary unary(table, guard);
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<RunServiceImpl>(unary, streams));
  services.push_back(std::make_unique<PipelineServiceImpl>(unary));
  services.push_back(std::make_unique<ArtifactServiceImpl>(unary));
  services.push_back(std::make_unique<LogServiceImpl>(unary, streams));
  services.push_back(std::make_unique<OrchestratorServiceImpl>(unary));
  services.push_back(std::make_unique<SecretServiceImpl>(unary));
  services.push_back(std::make_unique<AuthServiceImpl>(unary));
  services.push_back(std::make_unique<AdminServiceImpl>(unary));
  return services;
}

}  // namespace orch::rpc
