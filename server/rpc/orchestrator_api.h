// OrchestratorService's calls, for every transport.
#pragma once

#include "backends/api/registry.h"
#include "orch/v1/orchestrator_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class OrchestratorApi {
 public:
  explicit OrchestratorApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status ListFlavors(const CallContext& context, const v1::ListFlavorsRequest& request,
                           v1::ListFlavorsResponse* response);
  absl::Status DescribeFlavor(const CallContext& context, const v1::DescribeFlavorRequest& request, v1::Flavor* flavor);
  absl::Status RegisterFlavor(const CallContext& context, const v1::RegisterFlavorRequest& request, v1::Flavor* flavor);
  absl::Status DeleteFlavor(const CallContext& context, const v1::DeleteFlavorRequest& request,
                            v1::DeleteFlavorResponse* response);
  absl::Status RegisterOrchestrator(const CallContext& context, const v1::RegisterOrchestratorRequest& request,
                                    v1::Orchestrator* orchestrator);
  absl::Status UpdateOrchestrator(const CallContext& context, const v1::UpdateOrchestratorRequest& request,
                                  v1::Orchestrator* orchestrator);
  absl::Status GetOrchestrator(const CallContext& context, const v1::GetOrchestratorRequest& request,
                               v1::Orchestrator* orchestrator);
  absl::Status ListOrchestrators(const CallContext& context, const v1::ListOrchestratorsRequest& request,
                                 v1::ListOrchestratorsResponse* response);
  absl::Status CheckOrchestrator(const CallContext& context, const v1::CheckOrchestratorRequest& request,
                                 v1::CheckOrchestratorResponse* response);
  absl::Status DeleteOrchestrator(const CallContext& context, const v1::DeleteOrchestratorRequest& request,
                                  v1::DeleteOrchestratorResponse* response);
  absl::Status SetPool(const CallContext& context, const v1::SetPoolRequest& request, v1::Pool* pool);
  absl::Status ListPools(const CallContext& context, const v1::ListPoolsRequest& request,
                         v1::ListPoolsResponse* response);
  absl::Status DeletePool(const CallContext& context, const v1::DeletePoolRequest& request,
                          v1::DeletePoolResponse* response);

 private:
  absl::Status Put(const CallContext& context, const v1::Orchestrator& in, absl::string_view request_id,
                   int64_t expected_version, bool validate_only, v1::Orchestrator* out);

  const ApiContext& api_;
};

}  // namespace orch::rpc
