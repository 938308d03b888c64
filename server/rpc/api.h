// All of orch.v1 behind one table: what the gRPC server and the HTTP server are both built on.
#pragma once

#include <memory>
#include <string>

#include "server/rpc/api_base.h"
#include "server/rpc/guard.h"
#include "server/rpc/method_table.h"
#include "server/rpc/worker_pool.h"

namespace orch::rpc {

struct ApiOptions {
  Engine* engine = nullptr;  // outlives the Api
  std::string token;
  std::string version;
  std::string data_dir;
  std::string public_url;
};

class Api {
 public:
  explicit Api(ApiOptions options);
  ~Api();

  const MethodTable& table() const;
  Guard& guard();
  Metrics& metrics();
  SignIn& sign_in();
  Facts& facts();
  const ApiContext& context() const;
  // For streams.
  WorkerPool& pool();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace orch::rpc
