// The unary calls.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/lib/client_impl.h"

namespace orch::client {
namespace {

// The daemon answers a WaitRun within 60 s by contract; shorter pieces notice a dead connection sooner.
constexpr std::chrono::milliseconds kWaitPiece{20'000};
constexpr std::chrono::milliseconds kWaitSlack{10'000};
constexpr std::chrono::milliseconds kPruneTime{600'000};
constexpr std::chrono::milliseconds kPluginTime{120'000};
constexpr int32_t kDownloadPiece = 2 << 20;

}  // namespace

absl::StatusOr<v1::Run> Client::SubmitRun(v1::SubmitRunRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::SubmitRun, std::move(request));
}

absl::StatusOr<v1::Run> Client::GetRun(absl::string_view name) {
  v1::GetRunRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::GetRun, std::move(request));
}

absl::StatusOr<v1::ListRunsResponse> Client::ListRuns(v1::ListRunsRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::ListRuns, std::move(request));
}

absl::StatusOr<v1::Run> Client::CancelRun(v1::CancelRunRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::CancelRun, std::move(request));
}

absl::StatusOr<v1::Run> Client::PauseRun(absl::string_view name) {
  v1::PauseRunRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::PauseRun, std::move(request));
}

absl::StatusOr<v1::Run> Client::ResumeRun(absl::string_view name) {
  v1::ResumeRunRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::ResumeRun, std::move(request));
}

absl::StatusOr<v1::Run> Client::SkipStep(v1::SkipStepRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::SkipStep, std::move(request));
}

absl::StatusOr<v1::Run> Client::RetryRun(v1::RetryRunRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::RetryRun, std::move(request));
}

absl::Status Client::DeleteRun(absl::string_view name) {
  v1::DeleteRunRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::DeleteRun, std::move(request)).status();
}

absl::StatusOr<v1::ListStepsResponse> Client::ListSteps(v1::ListStepsRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::ListSteps, std::move(request));
}

absl::StatusOr<v1::Step> Client::GetStep(v1::GetStepRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::GetStep, std::move(request));
}

absl::StatusOr<v1::ListEventsResponse> Client::ListEvents(v1::ListEventsRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::ListEvents, std::move(request));
}

absl::StatusOr<v1::Run> Client::WaitRun(absl::string_view name, std::chrono::milliseconds timeout,
                                        Cancellation* cancel) {
  using Steady = std::chrono::steady_clock;
  // A caller's "for ever" must not overflow the clock.
  const auto end = Steady::now() + std::min<std::chrono::milliseconds>(timeout, std::chrono::hours(24 * 365));
  v1::WaitRunRequest request;
  request.set_name(std::string(name));
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Steady::now());
    const auto piece = std::clamp<std::chrono::milliseconds>(left, std::chrono::milliseconds(1), kWaitPiece);
    request.mutable_timeout()->set_seconds(piece.count() / 1000);
    request.mutable_timeout()->set_nanos(static_cast<int32_t>(piece.count() % 1000 * 1'000'000));
    ASSIGN_OR_RETURN(v1::Run run, impl_->Call(*impl_->runs, &v1::RunService::Stub::WaitRun, request,
                                              piece + std::max(kWaitSlack, impl_->options.reconnect_patience), cancel));
    if (Ended(run.state()) || Steady::now() >= end) return run;
    request.set_generation(run.generation());  // its end is meant, whoever retries it
  }
}

absl::StatusOr<v1::ReadLogsResponse> Client::ReadLogs(v1::ReadLogsRequest request) {
  return impl_->Call(*impl_->logs, &v1::LogService::Stub::ReadLogs, std::move(request));
}

absl::StatusOr<v1::SearchLogsResponse> Client::SearchLogs(v1::SearchLogsRequest request) {
  return impl_->Call(*impl_->logs, &v1::LogService::Stub::SearchLogs, std::move(request));
}

absl::StatusOr<v1::ValidatePipelineResponse> Client::ValidatePipeline(v1::ValidatePipelineRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::ValidatePipeline, std::move(request));
}

absl::StatusOr<v1::PipelineVersion> Client::RegisterPipeline(v1::RegisterPipelineRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::RegisterPipeline, std::move(request));
}

absl::StatusOr<v1::PipelineVersion> Client::GetPipeline(v1::GetPipelineRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::GetPipeline, std::move(request));
}

absl::StatusOr<v1::Explanation> Client::ExplainRun(v1::ExplainRunRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::ExplainRun, std::move(request));
}

absl::StatusOr<v1::RunDiff> Client::CompareRuns(v1::CompareRunsRequest request) {
  return impl_->Call(*impl_->runs, &v1::RunService::Stub::CompareRuns, std::move(request));
}

absl::StatusOr<v1::PlanRunResponse> Client::PlanRun(v1::PlanRunRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::PlanRun, std::move(request));
}

absl::StatusOr<v1::InvalidateCacheResponse> Client::InvalidateCache(v1::InvalidateCacheRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::InvalidateCache, std::move(request));
}

absl::StatusOr<v1::ListPipelinesResponse> Client::ListPipelines(v1::ListPipelinesRequest request) {
  return impl_->Call(*impl_->pipelines, &v1::PipelineService::Stub::ListPipelines, std::move(request));
}

absl::StatusOr<v1::Artifact> Client::GetArtifact(absl::string_view name) {
  v1::GetArtifactRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->artifacts, &v1::ArtifactService::Stub::GetArtifact, std::move(request));
}

absl::StatusOr<v1::ListArtifactsResponse> Client::ListArtifacts(v1::ListArtifactsRequest request) {
  return impl_->Call(*impl_->artifacts, &v1::ArtifactService::Stub::ListArtifacts, std::move(request));
}

absl::StatusOr<v1::Artifact> Client::PublishArtifact(v1::PublishArtifactRequest request) {
  return impl_->Call(*impl_->artifacts, &v1::ArtifactService::Stub::PublishArtifact, std::move(request));
}

absl::StatusOr<v1::GetLineageResponse> Client::GetLineage(v1::GetLineageRequest request) {
  return impl_->Call(*impl_->artifacts, &v1::ArtifactService::Stub::GetLineage, std::move(request));
}

absl::Status Client::DownloadArtifact(absl::string_view name, const OnBytes& on_bytes) {
  v1::ReadArtifactRequest request;
  request.set_name(std::string(name));
  request.set_max_bytes(kDownloadPiece);
  int64_t offset = 0;
  while (true) {
    request.set_offset(offset);
    ASSIGN_OR_RETURN(const v1::ReadArtifactResponse piece,
                     impl_->Call(*impl_->artifacts, &v1::ArtifactService::Stub::ReadArtifact, request));
    if (!piece.data().empty()) RETURN_IF_ERROR(on_bytes(piece.data()));
    offset += static_cast<int64_t>(piece.data().size());
    if (piece.end()) break;
    if (piece.data().empty()) {
      return Error(absl::StatusCode::kDataLoss, "ARTIFACT_SHORT",
                   absl::StrCat("artifact ", name, " stopped at byte ", offset, " of ", piece.size(),
                                ": its bytes in the store are not whole; make it again"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ListFlavorsResponse> Client::ListFlavors() {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::ListFlavors, v1::ListFlavorsRequest());
}

absl::StatusOr<v1::Flavor> Client::DescribeFlavor(absl::string_view name) {
  v1::DescribeFlavorRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DescribeFlavor, std::move(request));
}

absl::StatusOr<v1::Flavor> Client::RegisterFlavor(v1::RegisterFlavorRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::RegisterFlavor, std::move(request),
                     kPluginTime);
}

absl::Status Client::DeleteFlavor(absl::string_view name) {
  v1::DeleteFlavorRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DeleteFlavor, std::move(request)).status();
}

absl::StatusOr<v1::Orchestrator> Client::RegisterOrchestrator(v1::RegisterOrchestratorRequest request) {
  impl_->Fill(request.mutable_orchestrator());
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::RegisterOrchestrator, std::move(request),
                     kPluginTime);
}

absl::StatusOr<v1::Orchestrator> Client::UpdateOrchestrator(v1::UpdateOrchestratorRequest request) {
  impl_->Fill(request.mutable_orchestrator());
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::UpdateOrchestrator, std::move(request));
}

absl::StatusOr<v1::Orchestrator> Client::GetOrchestrator(absl::string_view name) {
  v1::GetOrchestratorRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::GetOrchestrator, std::move(request));
}

absl::StatusOr<v1::ListOrchestratorsResponse> Client::ListOrchestrators(v1::ListOrchestratorsRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::ListOrchestrators, std::move(request));
}

absl::StatusOr<v1::CheckOrchestratorResponse> Client::CheckOrchestrator(v1::CheckOrchestratorRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::CheckOrchestrator, std::move(request));
}

absl::Status Client::DeleteOrchestrator(absl::string_view name) {
  v1::DeleteOrchestratorRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DeleteOrchestrator, std::move(request))
      .status();
}

absl::StatusOr<v1::Pool> Client::SetPool(v1::SetPoolRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::SetPool, std::move(request));
}

absl::StatusOr<v1::ListPoolsResponse> Client::ListPools() {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::ListPools, v1::ListPoolsRequest());
}

absl::Status Client::DeletePool(absl::string_view name) {
  v1::DeletePoolRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DeletePool, std::move(request)).status();
}

absl::StatusOr<v1::ListStacksResponse> Client::ListStacks() {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::ListStacks, v1::ListStacksRequest());
}

absl::StatusOr<v1::Stack> Client::GetStack(absl::string_view name) {
  v1::GetStackRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::GetStack, std::move(request));
}

absl::Status Client::DeleteStack(absl::string_view name) {
  v1::DeleteStackRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DeleteStack, std::move(request)).status();
}

absl::StatusOr<v1::ArtifactStore> Client::RegisterArtifactStore(v1::RegisterArtifactStoreRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::RegisterArtifactStore, std::move(request));
}

absl::StatusOr<v1::ArtifactStore> Client::GetArtifactStore(absl::string_view name) {
  v1::GetArtifactStoreRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::GetArtifactStore, std::move(request));
}

absl::StatusOr<v1::ListArtifactStoresResponse> Client::ListArtifactStores() {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::ListArtifactStores,
                     v1::ListArtifactStoresRequest());
}

absl::Status Client::DeleteArtifactStore(absl::string_view name) {
  v1::DeleteArtifactStoreRequest request;
  request.set_name(std::string(name));
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::DeleteArtifactStore, std::move(request))
      .status();
}

absl::StatusOr<v1::Stack> Client::SetStack(v1::SetStackRequest request) {
  return impl_->Call(*impl_->orchestrators, &v1::OrchestratorService::Stub::SetStack, std::move(request));
}

absl::StatusOr<v1::Secret> Client::SetSecret(v1::SetSecretRequest request) {
  return impl_->Call(*impl_->secrets, &v1::SecretService::Stub::SetSecret, std::move(request));
}

absl::StatusOr<v1::ListSecretsResponse> Client::ListSecrets(v1::ListSecretsRequest request) {
  return impl_->Call(*impl_->secrets, &v1::SecretService::Stub::ListSecrets, std::move(request));
}

absl::Status Client::DeleteSecret(v1::DeleteSecretRequest request) {
  return impl_->Call(*impl_->secrets, &v1::SecretService::Stub::DeleteSecret, std::move(request)).status();
}

absl::StatusOr<v1::CreateTokenResponse> Client::CreateToken(v1::CreateTokenRequest request) {
  return impl_->Call(*impl_->auth, &v1::AuthService::Stub::CreateToken, std::move(request));
}

absl::StatusOr<v1::ListTokensResponse> Client::ListTokens(v1::ListTokensRequest request) {
  return impl_->Call(*impl_->auth, &v1::AuthService::Stub::ListTokens, std::move(request));
}

absl::StatusOr<v1::Token> Client::RevokeToken(v1::RevokeTokenRequest request) {
  return impl_->Call(*impl_->auth, &v1::AuthService::Stub::RevokeToken, std::move(request));
}

absl::StatusOr<v1::Backup> Client::CreateBackup(const std::string& folder) {
  v1::CreateBackupRequest request;
  request.set_folder(folder);
  return impl_->Call(*impl_->admin, &v1::AdminService::Stub::CreateBackup, std::move(request), kPruneTime);
}

absl::StatusOr<v1::PruneResponse> Client::Prune(v1::PruneRequest request) {
  return impl_->Call(*impl_->admin, &v1::AdminService::Stub::Prune, std::move(request), kPruneTime);
}

absl::StatusOr<v1::ServerInfo> Client::GetServerInfo() {
  return impl_->Call(*impl_->admin, &v1::AdminService::Stub::GetServerInfo, v1::GetServerInfoRequest());
}

absl::StatusOr<v1::SignInLink> Client::CreateSignInLink(absl::string_view run) {
  v1::CreateSignInLinkRequest request;
  request.set_run(std::string(run));
  return impl_->Call(*impl_->admin, &v1::AdminService::Stub::CreateSignInLink, std::move(request));
}

}  // namespace orch::client
