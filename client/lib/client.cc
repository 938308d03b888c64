#include "client/lib/client.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "client/lib/client_impl.h"

namespace orch::client {
namespace {

grpc::ChannelArguments ChannelSettings() {
  grpc::ChannelArguments args;
  // Ours are the retries; gRPC's first pause after a refused connection would be a whole second.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // Despite its name the time that one attempt to connect may take.
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // The daemon is on this machine or in its network: a proxy from http_proxy is for other places.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // Error details travel as trailers, which gRPC limits to 8 KiB by default.
  args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);
  args.SetMaxReceiveMessageSize(-1);
  args.SetMaxSendMessageSize(-1);
  return args;
}

}  // namespace

Client::Impl::Impl(Endpoint e, ClientOptions o) : endpoint(std::move(e)), options(std::move(o)) {
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (UsesTls(endpoint.address)) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = endpoint.ca_pem;
    credentials = grpc::SslCredentials(tls);
  } else {
    const bool socket = absl::StartsWith(endpoint.address, "unix:");
    credentials = grpc::experimental::LocalCredentials(socket ? UDS : LOCAL_TCP);
  }
  const std::string target(absl::StripPrefix(endpoint.address, "https://"));
  channel = grpc::CreateCustomChannel(target, credentials, ChannelSettings());
  runs = v1::RunService::NewStub(channel);
  pipelines = v1::PipelineService::NewStub(channel);
  artifacts = v1::ArtifactService::NewStub(channel);
  logs = v1::LogService::NewStub(channel);
  orchestrators = v1::OrchestratorService::NewStub(channel);
  secrets = v1::SecretService::NewStub(channel);
  auth = v1::AuthService::NewStub(channel);
  admin = v1::AdminService::NewStub(channel);
}

RetryPolicy Client::Impl::Policy() const {
  RetryPolicy policy;
  policy.patience = met ? options.reconnect_patience : options.connect_patience;
  return policy;
}

void Client::Impl::Prepare(grpc::ClientContext* context) const {
  if (!endpoint.token.empty()) context->AddMetadata("authorization", "Bearer " + endpoint.token);
}

void Client::Impl::SetDeadline(grpc::ClientContext* context, std::chrono::microseconds from_now) {
  const int64_t micros = std::max<int64_t>(0, from_now.count());
  // The monotonic clock: a step of the wall clock must not end a call.
  context->set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(micros, GPR_TIMESPAN)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  ASSIGN_OR_RETURN(const Endpoint endpoint, Discover(options.discovery));
  return ConnectTo(endpoint, options);
}

std::unique_ptr<Client> Client::ConnectTo(const Endpoint& endpoint, const ClientOptions& options) {
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(endpoint, options)));
}

const Endpoint& Client::endpoint() const { return impl_->endpoint; }
const ClientOptions& Client::options() const { return impl_->options; }

bool Ended(v1::Run::State state) {
  return state == v1::Run::SUCCEEDED || state == v1::Run::FAILED || state == v1::Run::CANCELLED;
}

bool Ended(v1::Step::State state) {
  return state == v1::Step::SUCCEEDED || state == v1::Step::CACHED || state == v1::Step::FAILED ||
         state == v1::Step::CANCELLED || state == v1::Step::SKIPPED;
}

}  // namespace orch::client
