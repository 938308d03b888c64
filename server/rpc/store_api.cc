#include "server/rpc/store_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/asked.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/values.h"

namespace orch::rpc {

void StoreApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  // A store that is registered is tried, and one that does not answer takes its time.
  const MethodTraits slow{/*mutates=*/true, /*for_steps=*/false, /*waits=*/true};
  const auto name = [](absl::string_view method) { return absl::StrCat("orch.v1.OrchestratorService/", method); };
  table->Add(name("RegisterArtifactStore"), slow, this, &StoreApi::RegisterArtifactStore);
  table->Add(name("GetArtifactStore"), {}, this, &StoreApi::GetArtifactStore);
  table->Add(name("ListArtifactStores"), {}, this, &StoreApi::ListArtifactStores);
  table->Add(name("DeleteArtifactStore"), mutation, this, &StoreApi::DeleteArtifactStore);
  table->Add(name("ListStacks"), {}, this, &StoreApi::ListStacks);
  table->Add(name("GetStack"), {}, this, &StoreApi::GetStack);
  table->Add(name("SetStack"), mutation, this, &StoreApi::SetStack);
  table->Add(name("DeleteStack"), mutation, this, &StoreApi::DeleteStack);
}

absl::StatusOr<v1::ArtifactStore> StoreApi::Shown(const ArtifactStoreRow& row) {
  v1::ArtifactStore out = ToArtifactStore(row);
  ASSIGN_OR_RETURN(const int64_t blobs, api_.engine->queries().CountBlobCopies(row.name));
  out.set_blobs(blobs);
  return out;
}

absl::Status StoreApi::RegisterArtifactStore(const CallContext& context,
                                             const v1::RegisterArtifactStoreRequest& request,
                                             v1::ArtifactStore* store) {
  const v1::ArtifactStore& in = request.artifact_store();
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Name("request.artifact_store.name", in.name(), /*dots=*/true);
  if (in.flavor().empty()) checks.Add("request.artifact_store.flavor", "REQUIRED", "name its flavor: local or s3");
  checks.Text("request.artifact_store.flavor", in.flavor(), 200);
  ArtifactStoreRow row;
  row.name = in.name();
  row.flavor = in.flavor();
  row.config_json = ToJson(in.config());
  checks.Json("request.artifact_store.config", in.config());
  checks.Text("request.artifact_store.config", row.config_json, 64 << 10);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the artifact store cannot be registered"));
  ASSIGN_OR_RETURN(const ArtifactStoreRow stored,
                   api_.engine->PutArtifactStore(std::move(row), request.update(), request.validate_only(),
                                                 context.deadline_micros));
  ASSIGN_OR_RETURN(*store, Shown(stored));
  return absl::OkStatus();
}

absl::Status StoreApi::GetArtifactStore(const CallContext&, const v1::GetArtifactStoreRequest& request,
                                        v1::ArtifactStore* store) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListArtifactStores());
  for (const ArtifactStoreRow& row : rows) {
    if (row.name != request.name()) continue;
    ASSIGN_OR_RETURN(*store, Shown(row));
    return absl::OkStatus();
  }
  return Error(
      absl::StatusCode::kNotFound, "ARTIFACT_STORE_NOT_FOUND",
      absl::StrCat("there is no artifact store ", Quoted(request.name()), "; see orchctl list-artifact-stores"));
}

absl::Status StoreApi::ListArtifactStores(const CallContext&, const v1::ListArtifactStoresRequest&,
                                          v1::ListArtifactStoresResponse* response) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListArtifactStores());
  for (const ArtifactStoreRow& row : rows) {
    ASSIGN_OR_RETURN(*response->add_artifact_stores(), Shown(row));
  }
  return absl::OkStatus();
}

absl::Status StoreApi::DeleteArtifactStore(const CallContext& context, const v1::DeleteArtifactStoreRequest& request,
                                           v1::DeleteArtifactStoreResponse*) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was changed"));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeleteArtifactStore", request));
  return api_.engine->DeleteArtifactStore(request.name(), std::move(asked), context.deadline_micros);
}

absl::Status StoreApi::ListStacks(const CallContext&, const v1::ListStacksRequest&, v1::ListStacksResponse* response) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListStacks());
  for (const StackRow& row : rows) *response->add_stacks() = ToStack(row);
  return absl::OkStatus();
}

absl::Status StoreApi::GetStack(const CallContext&, const v1::GetStackRequest& request, v1::Stack* stack) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListStacks());
  for (const StackRow& row : rows) {
    if (row.name != request.name()) continue;
    *stack = ToStack(row);
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kNotFound, "STACK_NOT_FOUND",
               absl::StrCat("there is no stack ", Quoted(request.name()), "; see orchctl list-stacks"));
}

absl::Status StoreApi::SetStack(const CallContext& context, const v1::SetStackRequest& request, v1::Stack* stack) {
  Checks checks;
  checks.RequestId(request.request_id());
  const v1::Stack& in = request.stack();
  checks.Name("request.stack.name", in.name(), /*dots=*/true);
  checks.Name("request.stack.orchestrator", in.orchestrator(), /*dots=*/true);
  if (!in.artifact_store().empty()) checks.Name("request.stack.artifact_store", in.artifact_store(), /*dots=*/true);
  checks.Text("request.stack.image_registry", in.image_registry(), 1000);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the stack was not set"));
  const StackRow row{in.name(), in.orchestrator(), in.artifact_store().empty() ? "default" : in.artifact_store(),
                     in.image_registry(), in.is_default()};
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "SetStack", request));
  RETURN_IF_ERROR(api_.engine->PutStack(row, std::move(asked), context.deadline_micros));
  *stack = ToStack(row);
  return absl::OkStatus();
}

absl::Status StoreApi::DeleteStack(const CallContext& context, const v1::DeleteStackRequest& request,
                                   v1::DeleteStackResponse*) {
  Checks checks;
  checks.RequestId(request.request_id());
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was changed"));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeleteStack", request));
  return api_.engine->DeleteStack(request.name(), std::move(asked), context.deadline_micros);
}

}  // namespace orch::rpc
