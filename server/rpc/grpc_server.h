// The gRPC server: services, health, reflection, on a TCP address and on a Unix socket.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/rpc/api.h"
#include "server/rpc/callback_pulse.h"
#include "server/rpc/streams.h"

namespace orch::rpc {

class GrpcServer {
 public:
  struct Options {
    std::string listen;     // `127.0.0.1:7433`; port 0: any free one; empty: no TCP
    std::string unix_path;  // becomes 0600; empty: none
    // A file with key and certificates for TCP, which is looked at every second: what it holds then serves new
    // connections. Empty: plain TCP, which must be on loopback.
    std::string tls_file;
  };
  // Serves at once, with health NOT_SERVING. UNAVAILABLE (ADDRESS_IN_USE) names the address. `api` outlives the server.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(Api* api, const Options& options);
  ~GrpcServer();

  // The port that listens; 0 without TCP.
  int port() const { return port_; }
  void SetServing(bool serving);
  // No new calls; streams must end by themselves (the hub is closed before); cuts off what still runs after `micros`.
  void Shutdown(int64_t micros);
  // A channel within the process, for tests. It counts as TCP.
  std::shared_ptr<grpc::Channel> InProcessChannel();

 private:
  GrpcServer() = default;
  std::unique_ptr<Streams> streams_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  bool stopped_ = false;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<CallbackPulse> pulse_;
  int port_ = 0;
};

}  // namespace orch::rpc
