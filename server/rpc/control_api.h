// RunService: what is asked of runs that exist.
#pragma once

#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class ControlApi {
 public:
  explicit ControlApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status CancelRun(const CallContext& context, const v1::CancelRunRequest& request, v1::Run* run);
  absl::Status DeleteRun(const CallContext& context, const v1::DeleteRunRequest& request,
                         v1::DeleteRunResponse* response);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
