// LogService's unary call, for every transport, and what the stream shares with it.
#pragma once

#include <optional>

#include "orch/v1/log_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

// The attempt asked for: 0 is the newest; nothing if the step has none yet. NOT_FOUND (ATTEMPT_NOT_FOUND).
absl::StatusOr<std::optional<AttemptRow>> FindAttempt(const ApiContext& api, const FoundRun& run, StepIx ix,
                                                      int32_t number);
// True if the step will have no further attempt.
absl::StatusOr<bool> StepHasEnded(const ApiContext& api, const FoundRun& run, StepIx ix);

class LogApi {
 public:
  explicit LogApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status SearchLogs(const CallContext& context, const v1::SearchLogsRequest& request,
                          v1::SearchLogsResponse* response);
  absl::Status ReadLogs(const CallContext& context, const v1::ReadLogsRequest& request, v1::ReadLogsResponse* response);

 private:
  absl::Status ReadHookLog(const CallContext& context, const v1::ReadLogsRequest& request, int64_t want,
                           v1::ReadLogsResponse* response);

  const ApiContext& api_;
};

}  // namespace orch::rpc
