// ScriptedServer is a double of the daemon: every service of the API with canned answers, over a real gRPC server on a
// loopback port or a Unix socket. A test sets the handlers it needs; a call without one answers UNIMPLEMENTED.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "orch/v1/admin_service.grpc.pb.h"
#include "orch/v1/artifact_service.grpc.pb.h"
#include "orch/v1/log_service.grpc.pb.h"
#include "orch/v1/orchestrator_service.grpc.pb.h"
#include "orch/v1/pipeline_service.grpc.pb.h"
#include "orch/v1/run_service.grpc.pb.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch::client {

// A status as the daemon sends it, with google.rpc details.
grpc::Status WireError(grpc::StatusCode code, const std::string& reason, const std::string& message,
                       const std::vector<Violation>& violations = {}, int64_t retry_ms = 0);

class ScriptedServer {
 public:
  // `address`: `127.0.0.1:0` or `unix:PATH`. With a token, calls without it are refused.
  explicit ScriptedServer(const std::string& address = "127.0.0.1:0", const std::string& token = "");
  ~ScriptedServer();

  // What a client dials.
  const std::string& address() const { return address_; }
  // Ends all streams and connections now.
  void Stop();

  template <typename Request, typename Response>
  using Handler = std::function<grpc::Status(const Request&, Response*)>;
  template <typename Request, typename Response>
  using StreamHandler =
      std::function<grpc::Status(const Request&, grpc::ServerContext*, const std::function<bool(const Response&)>&)>;

  Handler<v1::SubmitRunRequest, v1::Run> submit_run;
  Handler<v1::GetRunRequest, v1::Run> get_run;
  Handler<v1::ListRunsRequest, v1::ListRunsResponse> list_runs;
  Handler<v1::WaitRunRequest, v1::Run> wait_run;
  Handler<v1::CancelRunRequest, v1::Run> cancel_run;
  Handler<v1::ListStepsRequest, v1::ListStepsResponse> list_steps;
  Handler<v1::GetStepRequest, v1::Step> get_step;
  StreamHandler<v1::WatchRunsRequest, v1::WatchRunsResponse> watch_runs;
  StreamHandler<v1::TailLogsRequest, v1::TailLogsResponse> tail_logs;
  Handler<v1::ReadLogsRequest, v1::ReadLogsResponse> read_logs;
  Handler<v1::ValidatePipelineRequest, v1::ValidatePipelineResponse> validate_pipeline;
  Handler<v1::GetArtifactRequest, v1::Artifact> get_artifact;
  Handler<v1::ListArtifactsRequest, v1::ListArtifactsResponse> list_artifacts;
  Handler<v1::ReadArtifactRequest, v1::ReadArtifactResponse> read_artifact;
  Handler<v1::ListFlavorsRequest, v1::ListFlavorsResponse> list_flavors;
  Handler<v1::DescribeFlavorRequest, v1::Flavor> describe_flavor;
  Handler<v1::RegisterOrchestratorRequest, v1::Orchestrator> register_orchestrator;
  Handler<v1::UpdateOrchestratorRequest, v1::Orchestrator> update_orchestrator;
  Handler<v1::ListOrchestratorsRequest, v1::ListOrchestratorsResponse> list_orchestrators;
  Handler<v1::SetPoolRequest, v1::Pool> set_pool;
  Handler<v1::ListPoolsRequest, v1::ListPoolsResponse> list_pools;
  Handler<v1::ListStacksRequest, v1::ListStacksResponse> list_stacks;
  Handler<v1::SetStackRequest, v1::Stack> set_stack;
  Handler<v1::GetServerInfoRequest, v1::ServerInfo> get_server_info;
  Handler<v1::CreateSignInLinkRequest, v1::SignInLink> create_sign_in_link;

 private:
  struct Services;
  std::string address_;
  std::string token_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace orch::client
