#include "server/rpc/admin_api.h"

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/urls.h"

namespace orch::rpc {
namespace {
constexpr size_t kMaxPath = 4096;
}  // namespace

std::map<std::string, int64_t> LimitsByName(const Limits& limits) {
  return {{"steps_per_run", limits.steps_per_run},
          {"message_bytes", limits.message_bytes},
          {"value_bytes", limits.value_bytes},
          {"fanout_width", limits.fanout_width},
          {"outputs_per_run", limits.outputs_per_run},
          {"item_links", limits.item_links},
          {"expressions", limits.expressions},
          {"labels", limits.labels},
          {"log_bytes", limits.log_bytes},
          {"live_runs", limits.live_runs},
          {"inline_blob_bytes", limits.inline_blob_bytes},
          {"concurrent_calls", limits.concurrent_calls},
          {"api_tokens", limits.api_tokens},
          {"breaker_failures", limits.breaker_failures},
          {"watch_streams", limits.watch_streams},
          {"watch_patience_seconds", limits.watch_patience_seconds},
          {"log_compress_bytes", limits.log_compress_bytes}};
}

int64_t ResidentMemory() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

namespace {

void ToBackup(const store::Backup& made, v1::Backup* out) {
  out->set_path(made.path);
  *out->mutable_create_time() = ToTimestamp(made.made);
  out->set_size_bytes(made.bytes);
  out->set_runs(made.runs);
  out->set_last_sequence(made.last_sequence);
}

}  // namespace

void AdminApi::Register(MethodTable* table) {
  table->Add("orch.v1.AdminService/CreateBackup",
             {/*mutates=*/true, /*for_steps=*/false, /*waits=*/true, /*for_owner=*/true}, this,
             &AdminApi::CreateBackup);
  table->Add("orch.v1.AdminService/GetServerInfo", {}, this, &AdminApi::GetServerInfo);
  table->Add("orch.v1.AdminService/Prune", {/*mutates=*/true, /*for_steps=*/false, /*waits=*/false}, this,
             &AdminApi::Prune);
  table->Add("orch.v1.AdminService/CreateSignInLink", {}, this, &AdminApi::CreateSignInLink);
}

absl::Status AdminApi::GetServerInfo(const CallContext&, const v1::GetServerInfoRequest&, v1::ServerInfo* info) {
  const EngineStats stats = api_.engine->stats();
  const Addresses addresses = api_.facts->addresses();
  info->set_version(api_.facts->version);
  info->set_instance(api_.engine->instance());
  info->set_epoch(api_.engine->epoch());
  info->set_pid(::getpid());
  *info->mutable_start_time() = ToTimestamp(api_.facts->start_wall);
  info->set_data_dir(api_.facts->data_dir);
  info->set_grpc(addresses.grpc);
  info->set_http(addresses.http);
  info->set_grpc_unix(addresses.grpc_unix);
  info->set_http_unix(addresses.http_unix);
  info->set_public_url(api_.facts->pages());
  info->set_live_runs(stats.live_runs);
  info->set_live_attempts(stats.live_attempts);
  info->set_last_sequence(api_.engine->hub().last_sequence());
  info->set_status(stats.status);
  for (const auto& [name, value] : LimitsByName(api_.engine->limits())) (*info->mutable_limits())[name] = value;
  auto& components = *info->mutable_components();
  components["grpc"] = grpc::Version();
  components["protobuf"] = google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION);
  info->set_supervisor_pid(stats.supervisor_pid);
  info->set_resident_memory(ResidentMemory());
  const Backups::Latest backup = api_.engine->latest_backup();
  if (backup.backup.has_value()) ToBackup(*backup.backup, info->mutable_latest_backup());
  info->set_backup_failure(std::string(backup.failure.message()));
  return absl::OkStatus();
}

absl::Status AdminApi::CreateSignInLink(const CallContext& context, const v1::CreateSignInLinkRequest& request,
                                        v1::SignInLink* link) {
  std::string path = "/runs";
  if (!request.run().empty() && request.run()[0] == '/') {
    path = request.run();
    bool ours = path.size() <= 1000 && (path.size() < 2 || path[1] != '/');  // `//host` would lead elsewhere
    for (const char c : path) ours = ours && c > ' ' && c < '\x7f' && c != '\\' && c != '"' && c != '<' && c != '>';
    if (!ours) {
      return InvalidInput("REQUEST_INVALID", "the path is none of our pages",
                          {{"request.run", "give a path such as /runs, or a run", "WRONG_TYPE"}});
    }
  } else if (!request.run().empty()) {
    ASSIGN_OR_RETURN(const store::RunRecord record, FindRun(api_, context, request.project(), request.run()));
    path = RunUrl("", record.header.id);
  }
  const int64_t now = Clock::Real().Now().wall;
  // The browser may do what may be done with the token that asked for the link, and as long.
  ASSIGN_OR_RETURN(const std::string code, api_.sign_in->MakeCode(path, SubjectOf(context.identity), now));
  link->set_url(absl::StrCat(api_.facts->pages(), "/signin?code=", code));
  *link->mutable_expire_time() = ToTimestamp(now + SignIn::kLinkMicros);
  return absl::OkStatus();
}

absl::Status AdminApi::CreateBackup(const CallContext&, const v1::CreateBackupRequest& request, v1::Backup* backup) {
  const std::string& folder = request.folder();
  bool good = folder.size() <= kMaxPath && (folder.empty() || folder[0] == '/');
  for (const char c : folder) good = good && static_cast<unsigned char>(c) >= ' ' && c != '\x7f';
  if (!good) {
    return InvalidInput("REQUEST_INVALID", "no backup was made",
                        {{"request.folder", "an absolute path on the daemon's machine is needed", "WRONG_TYPE"}});
  }
  const absl::StatusOr<store::Backup> made = api_.engine->MakeBackup(folder);
  // That what is stored is damaged is for the owner to know, not only for the log.
  if (absl::IsDataLoss(made.status())) {
    return Error(absl::StatusCode::kFailedPrecondition, ReasonOf(made.status()), made.status().message());
  }
  RETURN_IF_ERROR(made.status());
  ToBackup(*made, backup);
  return absl::OkStatus();
}

absl::Status AdminApi::Prune(const CallContext&, const v1::PruneRequest& request, v1::PruneResponse* response) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Count("request.rules", request.rules_size(), kKeptCount);
  Retention rules;
  for (int i = 0; i < std::min(request.rules_size(), kKeptCount); ++i) {
    const v1::Retention::Rule& given = request.rules(i);
    const std::string field = absl::StrCat("request.rules[", i, "]");
    const int kind = static_cast<int>(given.kind()) - 1;
    if (kind < 0 || kind >= kKeptCount) {
      checks.Add(absl::StrCat(field, ".kind"), "REQUIRED", "CACHE, ARTIFACTS, RUNS, LOGS or EVENTS is needed");
      continue;
    }
    RetentionRule& rule = rules.of(static_cast<Kept>(kind));
    if (rule.any()) checks.Add(absl::StrCat(field, ".kind"), "NAME_CONFLICT", "there are two rules of this kind");
    if (given.has_max_age())
      rule.max_age_micros = checks.Duration(absl::StrCat(field, ".max_age"), given.max_age(), 1000);
    checks.Range(absl::StrCat(field, ".max_count"), given.max_count(), 0, INT64_MAX);
    checks.Range(absl::StrCat(field, ".max_bytes"), given.max_bytes(), 0, INT64_MAX);
    rule.max_count = given.max_count();
    rule.max_bytes = given.max_bytes();
    if (!rule.any()) checks.Add(field, "REQUIRED", "max_age, max_count or max_bytes is needed");
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "nothing was deleted"));
  ASSIGN_OR_RETURN(const std::vector<PruneGroup> groups,
                   api_.engine->Prune(request.rules().empty() ? api_.engine->retention() : rules, request.apply()));
  for (const PruneGroup& group : groups) {
    v1::PruneResponse::Group* out = response->add_groups();
    out->set_kind(static_cast<v1::Retention::Kind>(static_cast<int>(group.kind) + 1));
    out->set_count(group.count);
    out->set_bytes(group.bytes);
    for (const std::string& name : group.names) out->add_names(name);
    out->set_kept_count(group.kept_count);
    for (const auto& [name, by] : group.kept) {
      v1::PruneResponse::Needed* needed = out->add_kept();
      needed->set_name(name);
      needed->set_by(by);
    }
  }
  response->set_applied(request.apply());
  return absl::OkStatus();
}

}  // namespace orch::rpc
