// OrchestratorService's calls about artifact stores and stacks, for every transport.
#pragma once

#include "orch/v1/orchestrator_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class StoreApi {
 public:
  explicit StoreApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status RegisterArtifactStore(const CallContext& context, const v1::RegisterArtifactStoreRequest& request,
                                     v1::ArtifactStore* store);
  absl::Status GetArtifactStore(const CallContext& context, const v1::GetArtifactStoreRequest& request,
                                v1::ArtifactStore* store);
  absl::Status ListArtifactStores(const CallContext& context, const v1::ListArtifactStoresRequest& request,
                                  v1::ListArtifactStoresResponse* response);
  absl::Status DeleteArtifactStore(const CallContext& context, const v1::DeleteArtifactStoreRequest& request,
                                   v1::DeleteArtifactStoreResponse* response);
  absl::Status ListStacks(const CallContext& context, const v1::ListStacksRequest& request,
                          v1::ListStacksResponse* response);
  absl::Status GetStack(const CallContext& context, const v1::GetStackRequest& request, v1::Stack* stack);
  absl::Status SetStack(const CallContext& context, const v1::SetStackRequest& request, v1::Stack* stack);
  absl::Status DeleteStack(const CallContext& context, const v1::DeleteStackRequest& request,
                           v1::DeleteStackResponse* response);

 private:
  absl::StatusOr<v1::ArtifactStore> Shown(const ArtifactStoreRow& row);

  const ApiContext& api_;
};

}  // namespace orch::rpc
