// PlanRun and InvalidateCache, for every transport.
#pragma once

#include "orch/v1/pipeline_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class PlanApi {
 public:
  explicit PlanApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status PlanRun(const CallContext& context, const v1::PlanRunRequest& request, v1::PlanRunResponse* out);
  absl::Status InvalidateCache(const CallContext& context, const v1::InvalidateCacheRequest& request,
                               v1::InvalidateCacheResponse* out);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
