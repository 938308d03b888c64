#include "server/daemon.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/plugin/plugin_backend.h"
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/config/data_dir.h"
#include "server/http/listen.h"
#include "server/rpc/convert_pipeline.h"

namespace orch {
namespace {
// A client that keeps a connection busy must not hold up the end for longer.
constexpr int64_t kCutOffMicros = 3'000'000;
constexpr unsigned kLettingGoSeconds = 5;
}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const config::Config& config, const std::string& binary_dir) {
  RETURN_IF_ERROR(config::PrepareDataDir(config.data_dir));
  std::unique_ptr<Daemon> daemon(new Daemon(config));

  // First the engine: it takes the lock of the data directory, under which the token, the sockets and server.json are
  // ours to write.
  EngineOptions engine;
  engine.data_dir = config.data_dir;
  engine.binary_dir = binary_dir;
  engine.limits = config.limits;
  engine.fake_flavor = config.fake_flavor;
  engine.grace_micros = config.grace_micros;
  engine.retention = config.retention;
  engine.backup = config.backup;
  engine.reserve_after_micros = config.reserve_after_micros;
  engine.parse_spec = &rpc::ParseSpec;
  plugin::Limits limits;
  limits.start_micros = config.limits.plugin_start_seconds * 1'000'000;
  limits.call_micros = config.limits.plugin_call_seconds * 1'000'000;
  limits.message_bytes = config.limits.plugin_message_bytes;
  limits.log_bytes = config.limits.plugin_log_bytes;
  limits.messages_per_second = config.limits.plugin_messages_per_second;
  daemon->plugins_ = MakePluginHost(limits);
  engine.plugins = daemon->plugins_.get();
  ASSIGN_OR_RETURN(const config::SocketPaths sockets, config::PrepareSockets(config.data_dir));
  engine.step_endpoint = absl::StrCat("unix:", sockets.http);
  engine.far_step_endpoint = config.step_endpoint;
  if (!config.step_ca.empty()) {
    ASSIGN_OR_RETURN(engine.step_ca, ReadCertificates(config.step_ca));
  }
  engine.step_sockets = sockets.steps;
  ASSIGN_OR_RETURN(daemon->engine_, Engine::Start(std::move(engine)));
  config::RemoveServerFile(config.data_dir);  // of one that was killed

  rpc::ApiOptions api;
  if (config.token_file.empty()) {
    ASSIGN_OR_RETURN(api.token, config::ReadOrMakeToken(config.data_dir));
  } else {
    ASSIGN_OR_RETURN(api.token, config::ReadGivenToken(config.token_file));
    RETURN_IF_ERROR(config::KeepToken(config.data_dir, api.token));
  }
  api.engine = daemon->engine_.get();
  api.version = ORCH_VERSION;
  api.data_dir = config.data_dir;
  api.public_url = config.public_url;
  daemon->api_ = std::make_unique<rpc::Api>(std::move(api));

  if (!config.tls_cert.empty()) {
    ASSIGN_OR_RETURN(daemon->tls_, TlsFiles::Open(config.tls_cert, config.tls_key));
  }
  ASSIGN_OR_RETURN(const http::HostPort grpc_address, http::ParseAddress(config.listen));
  daemon->router_ = std::make_unique<http::Router>(daemon->api_.get());
  http::HttpServer::Options http_options;
  http_options.listen = config.http_listen;
  http_options.unix_path = sockets.http;
  http_options.steps_path = sockets.steps + "/http.sock";
  http_options.tls = daemon->tls_.get();
  ASSIGN_OR_RETURN(daemon->http_, http::HttpServer::Start(daemon->router_.get(), http_options));
  ASSIGN_OR_RETURN(daemon->grpc_,
                   rpc::GrpcServer::Start(daemon->api_.get(), {config.listen, sockets.grpc,
                                                               daemon->uses_tls() ? daemon->tls_->memory_file() : ""}));

  rpc::Addresses addresses;
  const bool v6 = grpc_address.host.find(':') != std::string::npos;
  addresses.grpc = absl::StrCat(v6 ? "[" : "", grpc_address.host, v6 ? "]" : "", ":", daemon->grpc_->port());
  addresses.http = absl::StrCat(daemon->uses_tls() ? "https://" : "http://", daemon->http_->address());
  addresses.grpc_unix = sockets.grpc;
  addresses.http_unix = sockets.http;
  daemon->api_->facts().SetAddresses(addresses);
  ORCH_FAULT("start.before_serving");
  daemon->grpc_->SetServing(true);
  daemon->router_->SetServing(true);
  RETURN_IF_ERROR(
      config::WriteServerFile(config.data_dir, {addresses.grpc, addresses.http, addresses.grpc_unix,
                                                addresses.http_unix, daemon->uses_tls(), ::getpid(), ORCH_VERSION}));
  daemon->announced_ = true;
  ORCH_FAULT("start.announced");
  Log(LogLevel::kInfo, "serving",
      {{"version", ORCH_VERSION}, {"data_dir", config.data_dir}, {"grpc", addresses.grpc}, {"http", addresses.http}});
  return daemon;
}

void Daemon::RefreshTls(bool force) {
  const absl::StatusOr<bool> changed = tls_->Refresh(force);
  if (!changed.ok()) {
    Log(LogLevel::kError, "the certificate stays as it was", {{"why", changed.status().message()}});
  } else if (*changed) {
    Log(LogLevel::kInfo, "another certificate is in force",
        {{"file", config_.tls_cert}, {"not_after", FormatTime(tls_->pair()->not_after * 1'000'000)}});
  }
}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() {
  if (engine_ == nullptr) return;
  Log(LogLevel::kInfo, "stopping");
  ORCH_FAULT("stop.begin");
  if (announced_) config::RemoveServerFile(config_.data_dir);
  if (router_) router_->SetServing(false);
  if (grpc_) grpc_->SetServing(false);
  if (api_) api_->guard().StartDraining();
  engine_->hub().Close();  // streams and waiters end now
  if (grpc_) grpc_->Shutdown(kCutOffMicros);
  if (http_) http_->Stop();
  ORCH_FAULT("stop.calls");
  if (api_) api_->pool().Stop();
  engine_->Shutdown();
  // gRPC waits for ever for a thread that it could not get when threads were short. All is durable by now.
  ::signal(SIGALRM, [](int) { ::_exit(0); });
  ::alarm(kLettingGoSeconds);
  grpc_.reset();
  http_.reset();
  router_.reset();
  api_.reset();
  engine_.reset();
  ::alarm(0);
  Log(LogLevel::kInfo, "stopped");
}

}  // namespace orch
