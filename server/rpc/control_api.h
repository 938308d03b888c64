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
  absl::Status PauseRun(const CallContext& context, const v1::PauseRunRequest& request, v1::Run* run);
  absl::Status ResumeRun(const CallContext& context, const v1::ResumeRunRequest& request, v1::Run* run);
  absl::Status SkipStep(const CallContext& context, const v1::SkipStepRequest& request, v1::Run* run);
  absl::Status RetryRun(const CallContext& context, const v1::RetryRunRequest& request, v1::Run* run);
  absl::Status SendHeartbeat(const CallContext& context, const v1::SendHeartbeatRequest& request,
                             v1::SendHeartbeatResponse* response);
  absl::Status DeleteRun(const CallContext& context, const v1::DeleteRunRequest& request,
                         v1::DeleteRunResponse* response);

 private:
  // Engine::Ask. What was answered before is looked at before the run is, which may have ended or be another by now.
  template <typename Request>
  absl::StatusOr<Asked> AskOfRun(absl::string_view method, const Request& request);
  absl::Status Answer(RunKey key, v1::Run* run);
  // The run that the first call was about, as it is now. NOT_FOUND (RUN_NOT_FOUND): deleted since.
  absl::Status AnswerAgain(const Asked& asked, v1::Run* run);
  const ApiContext& api_;
};

}  // namespace orch::rpc
