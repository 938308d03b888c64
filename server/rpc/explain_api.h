// ExplainRun and CompareRuns, for every transport.
#pragma once

#include "orch/v1/run_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class ExplainApi {
 public:
  explicit ExplainApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status ExplainRun(const CallContext& context, const v1::ExplainRunRequest& request, v1::Explanation* out);
  absl::Status CompareRuns(const CallContext& context, const v1::CompareRunsRequest& request, v1::RunDiff* out);

 private:
  absl::Status ExplainStep(const CallContext& context, const FoundRun& found, StepIx ix, v1::Explanation* out);
  absl::Status ExplainWhole(const CallContext& context, const FoundRun& found, v1::Explanation* out);
  absl::Status AddFailures(const FoundRun& found, StepIx ix, const StepRow* row, v1::Explanation* out);
  absl::Status AddCache(const FoundRun& found, StepIx ix, const StepRow* row, v1::Explanation* out);
  std::vector<std::string> LastLines(const FoundRun& found, StepIx ix, const AttemptRow& attempt);

  const ApiContext& api_;
};

// Durations, changed parts of keys and values as messages.
google::protobuf::Duration ToDuration(int64_t micros);
void AddChanges(const std::vector<PartChange>& changes, google::protobuf::RepeatedPtrField<v1::PartChange>* out);

}  // namespace orch::rpc
