#include "server/rpc/orchestrator_api.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/tokens.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

v1::Flavor ToFlavor(const FlavorInfo& info, bool with_schemas) {
  v1::Flavor out;
  out.set_name(info.name);
  out.set_description(info.description);
  for (const std::string& unit : info.units) out.add_units(unit);
  out.set_needs(info.needs);
  for (const std::string& word : info.native) out.add_native(word);
  for (const std::string& word : info.supplied) out.add_supplied(word);
  if (!info.make) {
    out.set_status(v1::Flavor::NOT_IN_THIS_BUILD);
    out.set_status_message("not in this build");
  } else if (const std::string missing = info.missing ? info.missing() : std::string(); !missing.empty()) {
    out.set_status(v1::Flavor::NEEDS);
    out.set_status_message(absl::StrCat("needs: ", missing));
  } else {
    out.set_status(v1::Flavor::READY);
    out.set_status_message("ready");
  }
  if (with_schemas) {
    // Our own texts; a test reads them all.
    if (!info.config_schema.empty()) (void)FromJson(info.config_schema, out.mutable_config_schema());
    if (!info.settings_schema.empty()) (void)FromJson(info.settings_schema, out.mutable_settings_schema());
  }
  return out;
}

absl::Status CheckRequestId(absl::string_view id) {
  Checks checks;
  checks.RequestId(id);
  return checks.ToStatus("REQUEST_INVALID", "nothing was changed");
}

}  // namespace

void OrchestratorApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  const auto name = [](absl::string_view method) { return absl::StrCat("orch.v1.OrchestratorService/", method); };
  table->Add(name("ListFlavors"), {}, this, &OrchestratorApi::ListFlavors);
  table->Add(name("DescribeFlavor"), {}, this, &OrchestratorApi::DescribeFlavor);
  table->Add(name("RegisterOrchestrator"), mutation, this, &OrchestratorApi::RegisterOrchestrator);
  table->Add(name("UpdateOrchestrator"), mutation, this, &OrchestratorApi::UpdateOrchestrator);
  table->Add(name("GetOrchestrator"), {}, this, &OrchestratorApi::GetOrchestrator);
  table->Add(name("ListOrchestrators"), {}, this, &OrchestratorApi::ListOrchestrators);
  table->Add(name("DeleteOrchestrator"), mutation, this, &OrchestratorApi::DeleteOrchestrator);
  table->Add(name("SetPool"), mutation, this, &OrchestratorApi::SetPool);
  table->Add(name("ListPools"), {}, this, &OrchestratorApi::ListPools);
  table->Add(name("DeletePool"), mutation, this, &OrchestratorApi::DeletePool);
  table->Add(name("ListStacks"), {}, this, &OrchestratorApi::ListStacks);
  table->Add(name("SetStack"), mutation, this, &OrchestratorApi::SetStack);
}

const FlavorInfo* OrchestratorApi::Find(absl::string_view name) const {
  for (const FlavorInfo& info : flavors_) {
    if (info.name == name && (info.listed || fake_)) return &info;
  }
  return nullptr;
}

absl::Status OrchestratorApi::ListFlavors(const CallContext&, const v1::ListFlavorsRequest&,
                                          v1::ListFlavorsResponse* response) {
  for (const FlavorInfo& info : flavors_) {
    if (info.listed || fake_) *response->add_flavors() = ToFlavor(info, /*with_schemas=*/false);
  }
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DescribeFlavor(const CallContext&, const v1::DescribeFlavorRequest& request,
                                             v1::Flavor* flavor) {
  const FlavorInfo* info = Find(request.name());
  if (info == nullptr) {
    return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
                 absl::StrCat("there is no flavor ", Quoted(request.name()), "; ListFlavors shows all"));
  }
  *flavor = ToFlavor(*info, /*with_schemas=*/true);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::Put(const CallContext& context, const v1::Orchestrator& in, absl::string_view request_id,
                                  int64_t expected_version, bool validate_only, v1::Orchestrator* out) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(in.project()));
  Checks checks;
  checks.RequestId(request_id);
  checks.Name("request.orchestrator.name", in.name(), /*dots=*/true);
  checks.Range("request.orchestrator.max_parallel", int64_t{in.max_parallel()}, 0, 1'000'000);
  if (in.flavor().empty()) checks.Add("request.orchestrator.flavor", "REQUIRED", "name its flavor");
  OrchestratorRow row;
  row.project = project;
  row.name = in.name();
  row.flavor = in.flavor();
  row.config_json = ToJson(in.config());
  row.max_parallel = in.max_parallel();
  checks.Json("request.orchestrator.config", in.config());
  checks.Text("request.orchestrator.config", row.config_json, 256 << 10);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the orchestrator cannot be registered"));
  const FlavorInfo* info = Find(in.flavor());
  if (info == nullptr) {
    return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
                 absl::StrCat("there is no flavor ", Quoted(in.flavor()), "; ListFlavors shows all"));
  }
  if (!info->make) {
    return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_NOT_IN_BUILD",
                 absl::StrCat("flavor `", info->name, "` is not in this build; ListFlavors shows what is"));
  }
  ASSIGN_OR_RETURN(const OrchestratorRow stored, api_.engine->PutOrchestrator(std::move(row), expected_version,
                                                                              validate_only, context.deadline_micros));
  *out = ToOrchestrator(stored, api_.engine->OrchestratorCapacity(project, stored.name));
  return absl::OkStatus();
}

absl::Status OrchestratorApi::RegisterOrchestrator(const CallContext& context,
                                                   const v1::RegisterOrchestratorRequest& request,
                                                   v1::Orchestrator* orchestrator) {
  return Put(context, request.orchestrator(), request.request_id(), 0, request.validate_only(), orchestrator);
}

absl::Status OrchestratorApi::UpdateOrchestrator(const CallContext& context,
                                                 const v1::UpdateOrchestratorRequest& request,
                                                 v1::Orchestrator* orchestrator) {
  const int64_t expected = request.orchestrator().version() > 0 ? request.orchestrator().version() : -1;
  // An update changes what exists.
  v1::GetOrchestratorRequest get;
  get.set_project(request.orchestrator().project());
  get.set_name(request.orchestrator().name());
  RETURN_IF_ERROR(GetOrchestrator(context, get, orchestrator));
  orchestrator->Clear();
  return Put(context, request.orchestrator(), request.request_id(), expected, request.validate_only(), orchestrator);
}

absl::Status OrchestratorApi::GetOrchestrator(const CallContext&, const v1::GetOrchestratorRequest& request,
                                              v1::Orchestrator* orchestrator) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListOrchestrators(project));
  for (const OrchestratorRow& row : rows) {
    if (row.name != request.name()) continue;
    *orchestrator = ToOrchestrator(row, api_.engine->OrchestratorCapacity(project, row.name));
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kNotFound, "ORCHESTRATOR_NOT_FOUND",
               absl::StrCat("there is no orchestrator ", Quoted(request.name()), "; ListOrchestrators shows all"));
}

absl::Status OrchestratorApi::ListOrchestrators(const CallContext&, const v1::ListOrchestratorsRequest& request,
                                                v1::ListOrchestratorsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  const std::string bound = absl::StrCat("orchestrators|", project);
  ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), bound));
  ASSIGN_OR_RETURN(auto rows, api_.engine->queries().ListOrchestrators(project));
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const OrchestratorRow& row : rows) {
    if (row.name <= after) continue;
    if (response->orchestrators_size() == limit) {
      response->set_next_page_token(MakePageToken(response->orchestrators(limit - 1).name(), bound));
      break;
    }
    *response->add_orchestrators() = ToOrchestrator(row, api_.engine->OrchestratorCapacity(project, row.name));
  }
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DeleteOrchestrator(const CallContext& context,
                                                 const v1::DeleteOrchestratorRequest& request,
                                                 v1::DeleteOrchestratorResponse*) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  return api_.engine->DeleteOrchestrator(project, request.name(), context.deadline_micros);
}

absl::Status OrchestratorApi::SetPool(const CallContext& context, const v1::SetPoolRequest& request, v1::Pool* pool) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Name("request.pool.name", request.pool().name(), /*dots=*/true);
  checks.Range("request.pool.slots", int64_t{request.pool().slots()}, 0, 1'000'000);
  checks.Text("request.pool.description", request.pool().description(), 1000);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the pool was not set"));
  const PoolRow row{request.pool().name(), request.pool().slots(), request.pool().description()};
  RETURN_IF_ERROR(api_.engine->PutPool(row, context.deadline_micros));
  *pool = ToPool(row, api_.engine->PoolUse()[row.name]);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::ListPools(const CallContext&, const v1::ListPoolsRequest&,
                                        v1::ListPoolsResponse* response) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListPools());
  std::map<std::string, int64_t> use = api_.engine->PoolUse();
  for (const PoolRow& row : rows) *response->add_pools() = ToPool(row, use[row.name]);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DeletePool(const CallContext& context, const v1::DeletePoolRequest& request,
                                         v1::DeletePoolResponse*) {
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  return api_.engine->DeletePool(request.name(), context.deadline_micros);
}

absl::Status OrchestratorApi::ListStacks(const CallContext&, const v1::ListStacksRequest&,
                                         v1::ListStacksResponse* response) {
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListStacks());
  for (const StackRow& row : rows) *response->add_stacks() = ToStack(row);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::SetStack(const CallContext& context, const v1::SetStackRequest& request,
                                       v1::Stack* stack) {
  Checks checks;
  checks.RequestId(request.request_id());
  const v1::Stack& in = request.stack();
  checks.Name("request.stack.name", in.name(), /*dots=*/true);
  checks.Name("request.stack.orchestrator", in.orchestrator(), /*dots=*/true);
  if (!in.artifact_store().empty() && in.artifact_store() != "default") {
    checks.Add("request.stack.artifact_store", "NOT_IN_THIS_BUILD", "the only artifact store is `default`");
  }
  checks.Text("request.stack.image_registry", in.image_registry(), 1000);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the stack was not set"));
  const StackRow row{in.name(), in.orchestrator(), "default", in.image_registry(), in.is_default()};
  RETURN_IF_ERROR(api_.engine->PutStack(row, context.deadline_micros));
  *stack = ToStack(row);
  return absl::OkStatus();
}

}  // namespace orch::rpc
