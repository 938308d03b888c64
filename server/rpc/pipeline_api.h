// PipelineService's calls, for every transport.
#pragma once

#include "orch/v1/pipeline_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class PipelineApi {
 public:
  explicit PipelineApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status ValidatePipeline(const CallContext& context, const v1::ValidatePipelineRequest& request,
                                v1::ValidatePipelineResponse* response);
  absl::Status RegisterPipeline(const CallContext& context, const v1::RegisterPipelineRequest& request,
                                v1::PipelineVersion* version);
  absl::Status GetPipeline(const CallContext& context, const v1::GetPipelineRequest& request,
                           v1::PipelineVersion* version);
  absl::Status ListPipelines(const CallContext& context, const v1::ListPipelinesRequest& request,
                             v1::ListPipelinesResponse* response);
  absl::Status ListPipelineVersions(const CallContext& context, const v1::ListPipelineVersionsRequest& request,
                                    v1::ListPipelineVersionsResponse* response);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
