#include "server/rpc/orchestrator_api.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/asked.h"
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
  out.set_plugin(info.plugin);
  out.set_plugin_version(info.plugin_version);
  if (with_schemas) {
    // Our own texts, which a test reads, or checked when the plug-in was registered.
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
  table->Add(name("RegisterFlavor"), mutation, this, &OrchestratorApi::RegisterFlavor);
  table->Add(name("DeleteFlavor"), mutation, this, &OrchestratorApi::DeleteFlavor);
  table->Add(name("RegisterOrchestrator"), mutation, this, &OrchestratorApi::RegisterOrchestrator);
  table->Add(name("UpdateOrchestrator"), mutation, this, &OrchestratorApi::UpdateOrchestrator);
  table->Add(name("GetOrchestrator"), {}, this, &OrchestratorApi::GetOrchestrator);
  table->Add(name("ListOrchestrators"), {}, this, &OrchestratorApi::ListOrchestrators);
  // It changes what is known, and lets work go on: nothing for who may only read.
  table->Add(name("CheckOrchestrator"), {/*mutates=*/true, /*for_steps=*/false, /*waits=*/true}, this,
             &OrchestratorApi::CheckOrchestrator);
  table->Add(name("DeleteOrchestrator"), mutation, this, &OrchestratorApi::DeleteOrchestrator);
  table->Add(name("SetPool"), mutation, this, &OrchestratorApi::SetPool);
  table->Add(name("ListPools"), {}, this, &OrchestratorApi::ListPools);
  table->Add(name("DeletePool"), mutation, this, &OrchestratorApi::DeletePool);
}

absl::Status OrchestratorApi::ListFlavors(const CallContext&, const v1::ListFlavorsRequest&,
                                          v1::ListFlavorsResponse* response) {
  for (const auto& info : api_.engine->Flavors()) {
    *response->add_flavors() = ToFlavor(*info, /*with_schemas=*/false);
  }
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DescribeFlavor(const CallContext&, const v1::DescribeFlavorRequest& request,
                                             v1::Flavor* flavor) {
  const auto info = api_.engine->FindFlavor(request.name());
  if (info == nullptr) {
    return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
                 absl::StrCat("there is no flavor ", Quoted(request.name()), "; ListFlavors shows all"));
  }
  *flavor = ToFlavor(*info, /*with_schemas=*/true);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::RegisterFlavor(const CallContext& context, const v1::RegisterFlavorRequest& request,
                                             v1::Flavor* flavor) {
  Checks checks;
  checks.RequestId(request.request_id());
  if (!request.name().empty()) checks.Name("request.name", request.name(), /*dots=*/false);
  const bool remote = request.program().empty();
  if (remote == request.address().empty()) {
    checks.Add("request.program", "REQUIRED", "name a program or an address, and not both");
  }
  const auto file = [&](absl::string_view field, const std::string& path, bool needed) {
    checks.Text(field, path, 4096);
    if (needed && path.empty()) checks.Add(field, "REQUIRED", "an address is reached with mTLS: name the file");
    if (!path.empty() && path[0] != '/') checks.Add(field, "WRONG_TYPE", "it is no absolute path");
  };
  file("request.program", request.program(), false);
  checks.Text("request.address", request.address(), 1000);
  if (!request.address().empty() && request.address().find(':') == std::string::npos) {
    checks.Add("request.address", "WRONG_TYPE", "it must be HOST:PORT");
  }
  const bool dial = !request.address().empty();
  file("request.ca_file", request.ca_file(), dial);
  file("request.certificate_file", request.certificate_file(), dial);
  file("request.key_file", request.key_file(), dial);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the flavor was not registered"));
  PluginSource source{request.program(), request.address(), "", "", ""};
  if (dial) {
    source.ca_file = request.ca_file();
    source.certificate_file = request.certificate_file();
    source.key_file = request.key_file();
  }
  ASSIGN_OR_RETURN(const auto info,
                   api_.engine->PutFlavor(request.name(), source, request.validate_only(), context.deadline_micros));
  *flavor = ToFlavor(*info, /*with_schemas=*/true);
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DeleteFlavor(const CallContext& context, const v1::DeleteFlavorRequest& request,
                                           v1::DeleteFlavorResponse*) {
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeleteFlavor", request));
  return api_.engine->DeleteFlavor(request.name(), std::move(asked), context.deadline_micros);
}

absl::Status OrchestratorApi::Put(const CallContext& context, const v1::Orchestrator& in, absl::string_view request_id,
                                  int64_t expected_version, bool validate_only, v1::Orchestrator* out) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(in.project()));
  Checks checks;
  checks.RequestId(request_id);
  checks.Name("request.orchestrator.name", in.name(), /*dots=*/true);
  checks.Range("request.orchestrator.max_parallel", int64_t{in.max_parallel()}, 0, 1'000'000);
  checks.Range("request.orchestrator.max_rate", in.max_rate(), 0.0, 1'000'000.0);
  if (in.max_rate() > 0 && in.max_rate() < 0.001) {
    checks.Add("request.orchestrator.max_rate", "OUT_OF_RANGE", "at least 0.001 a second; 0: no limit");
  }
  if (in.flavor().empty()) checks.Add("request.orchestrator.flavor", "REQUIRED", "name its flavor");
  OrchestratorRow row;
  row.project = project;
  row.name = in.name();
  row.flavor = in.flavor();
  row.config_json = ToJson(in.config());
  row.max_parallel = in.max_parallel();
  if (checks.ok()) row.rate_milli = std::llround(in.max_rate() * 1000);
  checks.Json("request.orchestrator.config", in.config());
  checks.Text("request.orchestrator.config", row.config_json, 256 << 10);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the orchestrator cannot be registered"));
  const auto info = api_.engine->FindFlavor(in.flavor());
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

absl::Status OrchestratorApi::GetOrchestrator(const CallContext& context, const v1::GetOrchestratorRequest& request,
                                              v1::Orchestrator* orchestrator) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListOrchestrators(project));
  for (const OrchestratorRow& row : rows) {
    if (row.name != request.name()) continue;
    *orchestrator = ToOrchestrator(row, api_.engine->OrchestratorCapacity(project, row.name));
    ASSIGN_OR_RETURN(const auto health, api_.engine->HealthOf({row.name}, context.deadline_micros));
    if (const auto found = health.find(row.name); found != health.end()) {
      *orchestrator->mutable_health() = ToHealth(found->second);
    }
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kNotFound, "ORCHESTRATOR_NOT_FOUND",
               absl::StrCat("there is no orchestrator ", Quoted(request.name()), "; ListOrchestrators shows all"));
}

absl::Status OrchestratorApi::ListOrchestrators(const CallContext& context, const v1::ListOrchestratorsRequest& request,
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
  std::vector<std::string> names;
  for (const v1::Orchestrator& o : response->orchestrators()) names.push_back(o.name());
  ASSIGN_OR_RETURN(const auto health, api_.engine->HealthOf(std::move(names), context.deadline_micros));
  for (v1::Orchestrator& o : *response->mutable_orchestrators()) {
    if (const auto found = health.find(o.name()); found != health.end()) *o.mutable_health() = ToHealth(found->second);
  }
  return absl::OkStatus();
}

absl::Status OrchestratorApi::CheckOrchestrator(const CallContext& context, const v1::CheckOrchestratorRequest& request,
                                                v1::CheckOrchestratorResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  ASSIGN_OR_RETURN(const ProbeReport report,
                   api_.engine->ProbeOrchestrator(project, request.name(), context.deadline_micros));
  response->set_good(report.good());
  for (const ProbeReport::Check& check : report.checks) {
    v1::CheckOrchestratorResponse::Check* out = response->add_checks();
    out->set_name(check.name);
    out->set_good(check.good);
    out->set_text(check.text);
    out->set_fix(check.fix);
  }
  ASSIGN_OR_RETURN(const auto health, api_.engine->HealthOf({request.name()}, context.deadline_micros));
  if (const auto found = health.find(request.name()); found != health.end()) {
    *response->mutable_health() = ToHealth(found->second);
  }
  return absl::OkStatus();
}

absl::Status OrchestratorApi::DeleteOrchestrator(const CallContext& context,
                                                 const v1::DeleteOrchestratorRequest& request,
                                                 v1::DeleteOrchestratorResponse*) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeleteOrchestrator", request));
  return api_.engine->DeleteOrchestrator(project, request.name(), std::move(asked), context.deadline_micros);
}

absl::Status OrchestratorApi::SetPool(const CallContext& context, const v1::SetPoolRequest& request, v1::Pool* pool) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Name("request.pool.name", request.pool().name(), /*dots=*/true);
  checks.Range("request.pool.slots", int64_t{request.pool().slots()}, 0, 1'000'000);
  checks.Text("request.pool.description", request.pool().description(), 1000);
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the pool was not set"));
  const PoolRow row{request.pool().name(), request.pool().slots(), request.pool().description()};
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "SetPool", request));
  RETURN_IF_ERROR(api_.engine->PutPool(row, std::move(asked), context.deadline_micros));
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
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeletePool", request));
  return api_.engine->DeletePool(request.name(), std::move(asked), context.deadline_micros);
}

}  // namespace orch::rpc
