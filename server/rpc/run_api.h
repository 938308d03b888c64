// RunService's unary calls, for every transport.
#pragma once

#include <atomic>

#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class RunApi {
 public:
  RunApi(const ApiContext* api, Metrics* metrics) : api_(*api), metrics_(*metrics) {}
  void Register(MethodTable* table);

  absl::Status SubmitRun(const CallContext& context, const v1::SubmitRunRequest& request, v1::Run* run);
  absl::Status GetRun(const CallContext& context, const v1::GetRunRequest& request, v1::Run* run);
  absl::Status ListRuns(const CallContext& context, const v1::ListRunsRequest& request, v1::ListRunsResponse* response);
  absl::Status WaitRun(const CallContext& context, const v1::WaitRunRequest& request, v1::Run* run);
  absl::Status ListSteps(const CallContext& context, const v1::ListStepsRequest& request,
                         v1::ListStepsResponse* response);
  absl::Status GetStep(const CallContext& context, const v1::GetStepRequest& request, v1::Step* step);
  absl::Status ListEvents(const CallContext& context, const v1::ListEventsRequest& request,
                          v1::ListEventsResponse* response);

 private:
  const ApiContext& api_;
  Metrics& metrics_;
};

}  // namespace orch::rpc
