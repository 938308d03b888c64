#include "server/rpc/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/rpc/accept.h"
#include "server/rpc/services.h"

namespace orch::rpc {
namespace {

constexpr unsigned kTlsRefreshSeconds = 1;
// A client that does not come to the end of its handshake; gRPC's own patience is two minutes.
constexpr int kHandshakeMillis = 15'000;
// So many threads stay to wait for the next call, once that many calls came at a time. With few, gRPC makes and ends
// thousands a second for clients that poll; one that stays takes 50 KiB.
constexpr int kPollers = 64;

// Reflection is gRPC's own service, which no guard of ours surrounds: its calls are stopped here. Everything else is
// decided by Guard, where the method is known.
class ReflectionLock : public grpc::AuthMetadataProcessor {
 public:
  ReflectionLock(Guard* guard, Transport transport) : guard_(*guard), transport_(transport) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata*, OutputMetadata*) override {
    const auto path = metadata.find(":path");
    if (path == metadata.end()) return grpc::Status::OK;
    const absl::string_view method(path->second.data(), path->second.size());
    if (!absl::StartsWith(method, "/grpc.reflection.")) return grpc::Status::OK;
    const auto given = metadata.find("authorization");
    if (given == metadata.end() && transport_ == Transport::kUnix) return grpc::Status::OK;
    if (given != metadata.end()) {
      const auto identity = guard_.Identify(transport_, {given->second.data(), given->second.size()});
      if (identity.ok() && identity->kind != Identity::Kind::kStep && identity->kind != Identity::Kind::kTask)
        return grpc::Status::OK;
    }
    return {grpc::StatusCode::UNAUTHENTICATED,
            "reflection needs the token: send `authorization: Bearer TOKEN`; it is in the file `token` of the "
            "daemon's data directory"};
  }

 private:
  Guard& guard_;
  const Transport transport_;
};

std::shared_ptr<grpc::ServerCredentials> Credentials(Guard* guard, Transport transport, const std::string& tls_file) {
  std::shared_ptr<grpc::ServerCredentials> credentials;
  if (tls_file.empty()) {
    credentials = grpc::experimental::LocalServerCredentials(transport == Transport::kUnix ? UDS : LOCAL_TCP);
  } else {
    // One file for both, so that it never pairs a key with the certificate of another.
    grpc::experimental::TlsServerCredentialsOptions options(
        std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(tls_file, tls_file, kTlsRefreshSeconds));
    options.watch_identity_key_cert_pairs();
    options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    credentials = grpc::experimental::TlsServerCredentials(options);
  }
  credentials->SetAuthMetadataProcessor(std::make_shared<ReflectionLock>(guard, transport));
  return credentials;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(Api* api, const Options& options) {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
  const Limits& limits = api->context().engine->limits();
  std::unique_ptr<GrpcServer> server(new GrpcServer());
  server->streams_ = std::make_unique<Streams>(&api->context(), &api->guard(), &api->pool());
  server->services_ = MakeServices(&api->table(), &api->guard(), server->streams_.get());

  KeepAccepting();
  grpc::ServerBuilder builder;
  for (const auto& service : server->services_) builder.RegisterService(service.get());
  if (!options.listen.empty()) {
    builder.AddListeningPort(options.listen, Credentials(&api->guard(), Transport::kTcp, options.tls_file),
                             &server->port_);
  }
  if (!options.unix_path.empty()) {
    builder.AddListeningPort("unix:" + options.unix_path, Credentials(&api->guard(), Transport::kUnix, ""));
  }
  // Otherwise a second daemon would start on the same port and take half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMillis);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<int64_t>(limits.message_bytes, INT32_MAX)));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, kPollers);
  grpc::ResourceQuota quota("orchd");
  // Guard refuses first, with details; a few above it for pollers and health.
  quota.SetMaxThreads(static_cast<int>(limits.concurrent_calls) + 16);
  builder.SetResourceQuota(quota);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return Error(absl::StatusCode::kUnavailable, "ADDRESS_IN_USE",
                 absl::StrCat("cannot listen for gRPC on ", options.listen,
                              " (in use, or not of this machine); choose another with --listen, for example "
                              "--listen 127.0.0.1:0"));
  }
  if (!options.unix_path.empty() && ::chmod(options.unix_path.c_str(), 0600) != 0) {
    return Error(absl::StatusCode::kInternal, "SOCKET", absl::StrCat("cannot make ", options.unix_path, " 0600"));
  }
  server->SetServing(false);
  server->pulse_ = CallbackPulse::Start(server->InProcessChannel(), &api->pool());
  return server;
}

GrpcServer::~GrpcServer() { Shutdown(0); }

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus(serving);
  for (const char* name :
       {"orch.v1.RunService", "orch.v1.PipelineService", "orch.v1.ArtifactService", "orch.v1.LogService",
        "orch.v1.OrchestratorService", "orch.v1.SecretService", "orch.v1.AuthService", "orch.v1.AdminService"}) {
    health->SetServingStatus(name, serving);
  }
}

void GrpcServer::Shutdown(int64_t micros) {
  if (stopped_ || server_ == nullptr) return;
  stopped_ = true;
  if (pulse_ != nullptr) pulse_->Stop();
  // Without a deadline it would wait for streams for ever.
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::microseconds(micros));
  server_->Wait();  // its threads go with it, in the destructor, which may take long if some could not be had
}

std::shared_ptr<grpc::Channel> GrpcServer::InProcessChannel() { return server_->InProcessChannel({}); }

}  // namespace orch::rpc
