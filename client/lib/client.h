// The C++ client of orchd.
//
//   ASSIGN_OR_RETURN(auto client, orch::client::Client::Connect({}));
//   orch::v1::SubmitRunRequest request;
//   *request.mutable_pipeline() = pipeline;
//   ASSIGN_OR_RETURN(orch::v1::Run run, client->SubmitRun(request));
//   ASSIGN_OR_RETURN(run, client->WaitRun(run.name(), std::chrono::minutes(5)));
//
// Every call has a deadline. A call that failed because the daemon was away or busy is tried again with growing pauses,
// within the deadline; each mutation carries a `request_id` (made here unless given), so that it happens once however
// often it is sent. `project` is filled in from the options where the request has none.
//
// Errors are absl::Status; orch::ReasonOf() gives the reason word (`RUN_NOT_FOUND`), orch::ViolationsOf() all faults of
// bad input. Failures of the way to the daemon: UNAVAILABLE (SERVER_UNREACHABLE, SERVER_UNTRUSTED: TLS did not come
// about, DAEMON_NOT_RUNNING), UNAUTHENTICATED (TOKEN_INVALID), DEADLINE_EXCEEDED (SERVER_SILENT).
//
// Any thread may use one client at any time.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/lib/cancellation.h"
#include "client/lib/discovery.h"
#include "orch/v1/admin_service.pb.h"
#include "orch/v1/artifact_service.pb.h"
#include "orch/v1/auth_service.pb.h"
#include "orch/v1/log_service.pb.h"
#include "orch/v1/orchestrator_service.pb.h"
#include "orch/v1/pipeline_service.pb.h"
#include "orch/v1/run_service.pb.h"
#include "orch/v1/secret_service.pb.h"

namespace orch::client {

struct ClientOptions {
  DiscoveryOptions discovery;
  // For requests that name none; empty: the daemon's `default`.
  std::string project;
  // One unary call, all its attempts together.
  std::chrono::milliseconds timeout{30'000};
  // How long an unreachable daemon is borne: by calls before the first success, and after it (a restart).
  std::chrono::milliseconds connect_patience{1'500};
  std::chrono::milliseconds reconnect_patience{60'000};
  // A watch without even a bookmark for this long is begun anew.
  std::chrono::milliseconds silence{20'000};
};

// True: go on. False: end the stream; the call then answers OK.
using OnWatch = std::function<bool(const orch::v1::WatchRunsResponse&)>;
using OnLog = std::function<bool(const orch::v1::TailLogsResponse&)>;
using OnBytes = std::function<absl::Status(absl::string_view)>;

class Client {
 public:
  // Finds the daemon. Does not talk to it yet.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  static std::unique_ptr<Client> ConnectTo(const Endpoint& endpoint, const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Endpoint& endpoint() const;
  const ClientOptions& options() const;

  // Runs.
  absl::StatusOr<v1::Run> SubmitRun(v1::SubmitRunRequest request);
  absl::StatusOr<v1::Run> GetRun(absl::string_view name);
  absl::StatusOr<v1::ListRunsResponse> ListRuns(v1::ListRunsRequest request);
  absl::StatusOr<v1::Run> CancelRun(v1::CancelRunRequest request);
  absl::StatusOr<v1::Run> PauseRun(absl::string_view name);
  absl::StatusOr<v1::Run> ResumeRun(absl::string_view name);
  absl::StatusOr<v1::Run> SkipStep(v1::SkipStepRequest request);
  absl::StatusOr<v1::Run> RetryRun(v1::RetryRunRequest request);
  absl::Status DeleteRun(absl::string_view name);
  absl::StatusOr<v1::ListStepsResponse> ListSteps(v1::ListStepsRequest request);
  absl::StatusOr<v1::Step> GetStep(v1::GetStepRequest request);
  absl::StatusOr<v1::ListEventsResponse> ListEvents(v1::ListEventsRequest request);
  // Why a run (`step` empty) or a step is where it is.
  absl::StatusOr<v1::Explanation> ExplainRun(v1::ExplainRunRequest request);
  absl::StatusOr<v1::RunDiff> CompareRuns(v1::CompareRunsRequest request);
  // Waits until the run has ended or `timeout` is over, through restarts of the daemon, and answers the run as it is
  // then. CANCELLED if `cancel` was.
  absl::StatusOr<v1::Run> WaitRun(absl::string_view name, std::chrono::milliseconds timeout,
                                  Cancellation* cancel = nullptr);

  // Calls `on_message` for each message, on this thread, until it returns false, the stream is over (`until_done`), or
  // `cancel` (then OK too). When the daemon goes away or falls silent the watch goes on where it was, without loss or
  // repetition; if the daemon no longer has that place, it begins again with a snapshot, which replaces all before.
  // `on_trouble`, if set, hears about each interruption. Events come one by one, also those that were sent together:
  // then only the last of these has a resume token.
  absl::Status WatchRuns(v1::WatchRunsRequest request, const OnWatch& on_message, Cancellation* cancel = nullptr,
                         const std::function<void(const absl::Status&)>& on_trouble = nullptr);

  // Logs, in the same manner; goes on at the byte where it was, in the attempt it began with.
  absl::Status TailLogs(v1::TailLogsRequest request, const OnLog& on_chunk, Cancellation* cancel = nullptr);
  absl::StatusOr<v1::ReadLogsResponse> ReadLogs(v1::ReadLogsRequest request);
  // One page.
  absl::StatusOr<v1::SearchLogsResponse> SearchLogs(v1::SearchLogsRequest request);

  // Pipelines.
  absl::StatusOr<v1::ValidatePipelineResponse> ValidatePipeline(v1::ValidatePipelineRequest request);
  absl::StatusOr<v1::PipelineVersion> RegisterPipeline(v1::RegisterPipelineRequest request);
  absl::StatusOr<v1::PipelineVersion> GetPipeline(v1::GetPipelineRequest request);
  absl::StatusOr<v1::ListPipelinesResponse> ListPipelines(v1::ListPipelinesRequest request);
  // What a submission would do; changes nothing.
  absl::StatusOr<v1::PlanRunResponse> PlanRun(v1::PlanRunRequest request);
  absl::StatusOr<v1::InvalidateCacheResponse> InvalidateCache(v1::InvalidateCacheRequest request);

  // Artifacts.
  absl::StatusOr<v1::Artifact> GetArtifact(absl::string_view name);
  absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(v1::ListArtifactsRequest request);
  absl::StatusOr<v1::Artifact> PublishArtifact(v1::PublishArtifactRequest request);
  // One page.
  absl::StatusOr<v1::GetLineageResponse> GetLineage(v1::GetLineageRequest request);
  // All bytes in order (of a folder: of its tar file), from one version: `name` should carry it (`x@3`, `art-7`).
  absl::Status DownloadArtifact(absl::string_view name, const OnBytes& on_bytes);

  // Orchestrators.
  absl::StatusOr<v1::ListFlavorsResponse> ListFlavors();
  absl::StatusOr<v1::Flavor> DescribeFlavor(absl::string_view name);
  // Starts the plug-in, which may take a while: the deadline is two minutes.
  absl::StatusOr<v1::Flavor> RegisterFlavor(v1::RegisterFlavorRequest request);
  absl::Status DeleteFlavor(absl::string_view name);
  absl::StatusOr<v1::Orchestrator> RegisterOrchestrator(v1::RegisterOrchestratorRequest request);
  absl::StatusOr<v1::Orchestrator> UpdateOrchestrator(v1::UpdateOrchestratorRequest request);
  absl::StatusOr<v1::Orchestrator> GetOrchestrator(absl::string_view name);
  absl::StatusOr<v1::ListOrchestratorsResponse> ListOrchestrators(v1::ListOrchestratorsRequest request);
  // May take ten seconds.
  absl::StatusOr<v1::CheckOrchestratorResponse> CheckOrchestrator(v1::CheckOrchestratorRequest request);
  absl::Status DeleteOrchestrator(absl::string_view name);
  absl::StatusOr<v1::Pool> SetPool(v1::SetPoolRequest request);
  absl::StatusOr<v1::ListPoolsResponse> ListPools();
  absl::Status DeletePool(absl::string_view name);
  absl::StatusOr<v1::ListStacksResponse> ListStacks();
  absl::StatusOr<v1::Stack> GetStack(absl::string_view name);
  absl::StatusOr<v1::Stack> SetStack(v1::SetStackRequest request);
  absl::Status DeleteStack(absl::string_view name);
  // Tried before it is registered, which may take a while.
  absl::StatusOr<v1::ArtifactStore> RegisterArtifactStore(v1::RegisterArtifactStoreRequest request);
  absl::StatusOr<v1::ArtifactStore> GetArtifactStore(absl::string_view name);
  absl::StatusOr<v1::ListArtifactStoresResponse> ListArtifactStores();
  absl::Status DeleteArtifactStore(absl::string_view name);

  // Secrets: they go in and never come out.
  absl::StatusOr<v1::Secret> SetSecret(v1::SetSecretRequest request);
  absl::StatusOr<v1::ListSecretsResponse> ListSecrets(v1::ListSecretsRequest request);
  absl::Status DeleteSecret(v1::DeleteSecretRequest request);

  // Tokens of clients; for the daemon's owner alone. The answer of the first has the value, no other call does.
  absl::StatusOr<v1::CreateTokenResponse> CreateToken(v1::CreateTokenRequest request);
  absl::StatusOr<v1::ListTokensResponse> ListTokens(v1::ListTokensRequest request);
  absl::StatusOr<v1::Token> RevokeToken(v1::RevokeTokenRequest request);

  // The daemon itself.
  absl::StatusOr<v1::ServerInfo> GetServerInfo();
  // A backup of the daemon's database in `folder` on its machine; empty: where its configuration says. May take long:
  // the deadline is ten minutes.
  absl::StatusOr<v1::Backup> CreateBackup(const std::string& folder);
  // What goes, or with `apply` went. May take long: the deadline is ten minutes.
  absl::StatusOr<v1::PruneResponse> Prune(v1::PruneRequest request);
  absl::StatusOr<v1::SignInLink> CreateSignInLink(absl::string_view run);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// True for SUCCEEDED, FAILED, CANCELLED.
bool Ended(v1::Run::State state);
// True for SUCCEEDED, CACHED, FAILED, CANCELLED, SKIPPED.
bool Ended(v1::Step::State state);

}  // namespace orch::client
