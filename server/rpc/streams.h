// The two server streams as reactors of gRPC's callback API. Any thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include "orch/v1/log_service.pb.h"
#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/guard.h"
#include "server/rpc/worker_pool.h"

namespace orch::rpc {

class Streams {
 public:
  // All outlive the streams; the pool is stopped after the server has been shut down.
  Streams(const ApiContext* api, Guard* guard, WorkerPool* pool) : api_(*api), guard_(*guard), pool_(*pool) {}

  grpc::ServerWriteReactor<v1::WatchRunsResponse>* WatchRuns(grpc::CallbackServerContext* context,
                                                             const v1::WatchRunsRequest* request);
  grpc::ServerWriteReactor<v1::TailLogsResponse>* TailLogs(grpc::CallbackServerContext* context,
                                                           const v1::TailLogsRequest* request);

 private:
  // Who calls; RESOURCE_EXHAUSTED beyond the limit `watch_streams`.
  absl::StatusOr<CallContext> Admit(grpc::CallbackServerContext* context, absl::string_view method);

  const ApiContext& api_;
  Guard& guard_;
  WorkerPool& pool_;
};

}  // namespace orch::rpc
