// Daemon puts the parts together: engine, API, gRPC and HTTP servers, and the files that clients find them by.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/tls_files.h"
#include "server/config/config.h"
#include "server/engine/engine.h"
#include "server/http/http_server.h"
#include "server/rpc/api.h"
#include "server/rpc/grpc_server.h"

namespace orch {

class Daemon {
 public:
  // Serves when it returns. `binary_dir`: where orchd's own programs are.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const config::Config& config, const std::string& binary_dir);
  ~Daemon();

  // Drains: no new work, streams end with their last token, then everything closes. Local steps go on.
  void Stop();

  // True if certificates may change: then RefreshTls wants to be called now and then, always by the same thread.
  bool uses_tls() const { return tls_ != nullptr; }
  // Puts a changed certificate in force; what is wrong with it goes to the log, and the old one stays.
  void RefreshTls(bool force);

  const rpc::Facts& facts() const { return api_->facts(); }

 private:
  explicit Daemon(config::Config config) : config_(std::move(config)) {}

  const config::Config config_;
  std::unique_ptr<TlsFiles> tls_;
  std::unique_ptr<PluginHost> plugins_;  // before the engine
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<rpc::Api> api_;
  std::unique_ptr<http::Router> router_;
  std::unique_ptr<rpc::GrpcServer> grpc_;
  std::unique_ptr<http::HttpServer> http_;
  bool announced_ = false;
};

}  // namespace orch
