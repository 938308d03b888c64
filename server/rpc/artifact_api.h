// ArtifactService's calls, for every transport.
#pragma once

#include "orch/v1/artifact_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class ArtifactApi {
 public:
  explicit ArtifactApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status PublishArtifact(const CallContext& context, const v1::PublishArtifactRequest& request,
                               v1::Artifact* artifact);
  absl::Status GetArtifact(const CallContext& context, const v1::GetArtifactRequest& request, v1::Artifact* artifact);
  absl::Status ListArtifacts(const CallContext& context, const v1::ListArtifactsRequest& request,
                             v1::ListArtifactsResponse* response);
  absl::Status GetLineage(const CallContext& context, const v1::GetLineageRequest& request,
                          v1::GetLineageResponse* response);
  absl::Status ReadArtifact(const CallContext& context, const v1::ReadArtifactRequest& request,
                            v1::ReadArtifactResponse* response);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
