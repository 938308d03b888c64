// The HTTP server: one epoll thread per listening socket, which only moves bytes; handlers run on a few workers while
// their connection is suspended. A slow or idle client holds a descriptor and 16 KiB, never a thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/tls_files.h"
#include "server/http/head_watch.h"
#include "server/http/router.h"
#include "server/rpc/worker_pool.h"

struct MHD_Daemon;

namespace orch::http {

class HttpServer {
 public:
  struct Options {
    std::string listen;     // `127.0.0.1:7434`; port 0: any free one; empty: no TCP
    std::string unix_path;  // becomes 0600; empty: none
    // Another for whoever may enter its folder, who must have a token as over TCP; empty: none.
    std::string steps_path;
    // For TCP, and asked at each handshake. Null: plain TCP, which must be on loopback. Outlives the server.
    const TlsFiles* tls = nullptr;
    unsigned connections = 4096;
    unsigned idle_seconds = 60;
  };
  // UNAVAILABLE (ADDRESS_IN_USE) names the address and the flag. `router` outlives the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Router* router, const Options& options);
  ~HttpServer();

  // `127.0.0.1:7434` with the real port; empty without TCP.
  const std::string& address() const { return address_; }
  // Waits for handlers that run, then closes all connections.
  void Stop();

 private:
  explicit HttpServer(const Router* router);
  absl::Status Serve(int fd, rpc::Transport transport, const TlsFiles* tls, const Options& options);

  struct Listener;
  const Router* router_;
  std::string address_;
  std::vector<std::string> unix_paths_;
  HeadWatch watch_{HeadWatch::Patience()};
  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;  // nothing is handed to a worker any more
  rpc::WorkerPool workers_;
  rpc::WorkerPool waiters_;    // for calls that may take a minute
  rpc::WorkerPool transfers_;  // for bytes of artifacts
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace orch::http
