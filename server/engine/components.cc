// Orchestrators, pools and stacks: what submissions are checked against, and how they change.
#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {

constexpr char kProject[] = "default";
constexpr int64_t kCleanUpMicros = 5'000'000;  // what is left of the last attempts, before it is said that something is

absl::Status NoOrchestrator(absl::string_view name) {
  return Error(absl::StatusCode::kNotFound, "ORCHESTRATOR_NOT_FOUND",
               absl::StrCat("there is no orchestrator `", name, "`; see orchctl list-orchestrators"));
}

// It was handed over, and only nobody waited for its commit.
bool WillBeStored(const absl::Status& status) { return status.code() == absl::StatusCode::kDeadlineExceeded; }

// `2`, `0.5` from thousandths.
std::string Thousandths(int64_t n) {
  if (n % 1000 == 0) return absl::StrCat(n / 1000);
  std::string out = absl::StrFormat("%.3f", static_cast<double>(n) / 1000);
  while (out.back() == '0') out.pop_back();
  return out;
}

std::map<std::string, int64_t> ByPool(const Capacity& capacity) {
  std::map<std::string, int64_t> out;
  if (capacity.cpu_millis) out["cpu"] = *capacity.cpu_millis;
  if (capacity.memory) out["memory"] = *capacity.memory;
  if (capacity.gpu) out["gpu"] = *capacity.gpu;
  for (const auto& [name, count] : capacity.custom) out["custom/" + name] = count;
  return out;
}

// Custom resources are always counted: what is not offered is not there.
bool IsCounted(const std::map<std::string, int64_t>& offered, const std::string& what) {
  return offered.count(what) > 0 || (absl::StartsWith(what, "custom/") && !offered.empty());
}

std::string Shown(const std::string& what, int64_t amount) {
  return what == "cpu" ? Thousandths(amount) : absl::StrCat(amount);
}

std::string FieldOf(const std::string& what) {
  if (absl::StartsWith(what, "pool/")) return absl::StrCat("pools.", what.substr(5));
  if (absl::StartsWith(what, "custom/")) return absl::StrCat("resources.custom.", what.substr(7));
  return absl::StrCat("resources.", what);
}

template <typename Rows>
bool HasName(const Rows& rows, const std::string& name) {
  return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.name == name; });
}

}  // namespace

EngineImpl::Components EngineImpl::components() {
  MutexLock lock(&mutex_);
  return components_;
}

absl::StatusOr<EngineImpl::Components> EngineImpl::StoredComponents() {
  Components out;
  ASSIGN_OR_RETURN(out.orchestrators, queries_->ListOrchestrators(kProject));
  ASSIGN_OR_RETURN(out.pools, queries_->ListPools());
  ASSIGN_OR_RETURN(out.stacks, queries_->ListStacks());
  ASSIGN_OR_RETURN(out.artifact_stores, queries_->ListArtifactStores());
  ASSIGN_OR_RETURN(out.secrets, queries_->ListSecrets(kProject));
  return out;
}

absl::Status EngineImpl::ForgetDeleted() {
  MutexLock change(&component_changes_);
  ASSIGN_OR_RETURN(Components stored, StoredComponents());
  ASSIGN_OR_RETURN(const std::vector<FlavorRow> flavors, queries_->ListFlavors());
  const Components before = components();
  for (const OrchestratorRow& row : before.orchestrators) {
    if (!HasName(stored.orchestrators, row.name)) outbox_->RemoveBackend(row.name);
  }
  for (const ArtifactStoreRow& row : before.artifact_stores) {
    if (!HasName(stored.artifact_stores, row.name)) stores_->Remove(row.name);
  }
  MutexLock lock(&mutex_);
  components_ = std::move(stored);
  std::erase_if(plugin_flavors_, [&](const auto& flavor) { return !HasName(flavors, flavor.first); });
  return absl::OkStatus();
}

absl::Status EngineImpl::LoadComponents() {
  ASSIGN_OR_RETURN(Components loaded, StoredComponents());
  ASSIGN_OR_RETURN(const std::vector<ApiTokenRow> tokens, queries_->ListApiTokens());
  api_tokens_.Load(tokens);
  if (loaded.stacks.empty()) {  // the first start
    const int64_t now = Clock::Real().Now().wall;
    Batch batch;
    batch.orchestrators.push_back({kProject, "local", "local", "{}", 0, now, now, 1});
    batch.stacks.push_back({"default", "local", "default", "", true});
    RETURN_IF_ERROR(writer_->Commit(&batch));
    loaded.orchestrators = batch.orchestrators;
    loaded.stacks = batch.stacks;
  }
  for (const PoolRow& pool : loaded.pools) RETURN_IF_ERROR(core_->Apply(PoolChanged{pool.name, pool.slots, true}, {}));
  for (const OrchestratorRow& row : loaded.orchestrators) {
    const absl::Status status = PutInService(row);
    if (!status.ok()) {
      Log(LogLevel::kError, "orchestrator not in service", {{"orchestrator", row.name}, {"why", status.message()}});
    } else {
      const auto backend = outbox_->FindBackend(row.name);
      RETURN_IF_ERROR(core_->Apply(
          OrchestratorChanged{row.name, true, ByPool(backend->capacity()), row.max_parallel, row.rate_milli}, {}));
    }
  }
  LoadArtifactStores(loaded.artifact_stores);
  MutexLock lock(&mutex_);
  components_ = std::move(loaded);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Backend>> EngineImpl::MakeBackend(const OrchestratorRow& row, bool registered) {
  const auto flavor = FindFlavor(row.flavor);
  if (flavor == nullptr) {
    return Error(absl::StatusCode::kNotFound, "FLAVOR_NOT_FOUND",
                 absl::StrCat("there is no flavor `", row.flavor, "`; see orchctl list-flavors"));
  }
  if (!flavor->make) {
    return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_NOT_IN_BUILD",
                 absl::StrCat("flavor `", row.flavor, "` is not in this build"));
  }
  if (const std::string missing = flavor->missing ? flavor->missing() : ""; !missing.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_NOT_READY",
                 absl::StrCat("flavor `", row.flavor, "` needs: ", missing));
  }
  BackendContext context;
  context.orchestrator = row.name;
  context.config_json = row.config_json.empty() ? "{}" : row.config_json;
  context.data_dir = options_.data_dir;
  context.binary_dir = options_.binary_dir;
  context.instance = instance_;
  context.step_sockets = options_.step_sockets;
  context.epoch = epoch_;
  context.read_secret = [this](const std::string& name) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const SecretRow secret, queries_->GetSecret("default", name));
    return secrets_->Open(secret);
  };
  context.log_compress_bytes = options_.limits.log_compress_bytes;
  context.registered = registered;
  return flavor->make(context);
}

absl::Status EngineImpl::PutInService(const OrchestratorRow& row) {
  ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend(row, /*registered=*/true));
  outbox_->SetFlavor(row.name, row.flavor);
  return outbox_->AddBackend(row.name, std::move(backend));
}

absl::Status EngineImpl::CheckAgainstComponents(const std::string& orchestrator, const std::string& artifact_store,
                                                const PipelineSpec& spec, std::vector<Violation>* violations) {
  const Components now = components();
  std::map<std::string, std::map<std::string, int64_t>> offered;  // by orchestrator
  std::map<std::string, std::string> gpu_kinds;                   // … where they are counted
  std::map<std::string, std::string> unreachable;                 // why its steps get no artifacts
  std::set<std::string> only_stores;
  const auto known = [&](const std::string& name) -> absl::Status {
    if (offered.count(name) > 0) return absl::OkStatus();
    for (const OrchestratorRow& row : now.orchestrators) {
      if (row.name != name) continue;
      const auto backend = outbox_->FindBackend(name);
      if (backend == nullptr) {
        return Error(absl::StatusCode::kFailedPrecondition, "ORCHESTRATOR_NOT_IN_SERVICE",
                     absl::StrCat("orchestrator `", name, "` is not in service; see the daemon's log"));
      }
      const Capacity capacity = backend->capacity();
      offered[name] = ByPool(capacity);
      if (capacity.gpu.value_or(0) > 0) gpu_kinds[name] = capacity.gpu_kind;
      const bool remote = !options_.far_step_endpoint.empty();
      if (!backend->shares_files() && !backend->has_endpoint() && !remote) {
        unreachable[name] =
            absl::StrCat("steps on `", name,
                         "` share no files with the daemon and cannot reach it for their artifacts: start orchd "
                         "with --step-endpoint and an address that they reach");
      }
      if (backend->reaches_only_stores()) {
        only_stores.insert(name);
        if (!stores_->HasAddresses(artifact_store)) {
          unreachable[name] =
              absl::StrCat("steps on `", name,
                           "` reach nothing but the run's artifact store, and that has no addresses for "
                           "them: submit with a stack whose store is S3");
        }
      }
      return absl::OkStatus();
    }
    // Somebody may have meant a flavor: say what is true of it.
    const auto flavor = FindFlavor(name);
    if (flavor != nullptr && !flavor->make) {
      return Error(
          absl::StatusCode::kFailedPrecondition, "FLAVOR_NOT_IN_BUILD",
          absl::StrCat("there is no orchestrator `", name, "`, and the flavor of that name is not in this build"));
    }
    return NoOrchestrator(name);
  };
  RETURN_IF_ERROR(known(orchestrator));
  for (size_t t = 0; t < spec.steps.size() && violations->size() < 200; ++t) {
    const StepOptions& options = spec.steps[t].options();
    const std::string& name = options.orchestrator.empty() ? orchestrator : options.orchestrator;
    const auto add = [&](const std::string& field, absl::string_view reason, const std::string& what) {
      violations->push_back({absl::StrCat("steps[", t, "].", field), what, std::string(reason)});
    };
    if (const absl::Status status = known(name); !status.ok()) {
      add("orchestrator", "UNKNOWN_REFERENCE", std::string(status.message()));
      continue;
    }
    if (unreachable.count(name) > 0) {
      add("orchestrator", "STORE_UNREACHABLE", unreachable[name]);
      continue;
    }
    if (only_stores.count(name) > 0 && options.heartbeat_micros > 0) {
      add("heartbeat", "UNSUPPORTED",
          absl::StrCat("steps on `", name, "` cannot give a sign of life: they do not reach the daemon"));
    }
    if (only_stores.count(name) > 0 && !options.secrets.empty()) {
      add("secrets", "UNSUPPORTED",
          absl::StrCat("steps on `", name, "` cannot ask the daemon, and no secret is written into a file for them"));
    }
    for (const Demand& demand : DemandsOf(options)) {
      if (absl::StartsWith(demand.pool, "pool/")) {
        const auto pool = std::find_if(now.pools.begin(), now.pools.end(),
                                       [&](const PoolRow& p) { return "pool/" + p.name == demand.pool; });
        if (pool == now.pools.end()) {
          add(FieldOf(demand.pool), "UNKNOWN_REFERENCE",
              absl::StrCat("there is no pool `", demand.pool.substr(5), "`; make it: orchctl create-pool ",
                           demand.pool.substr(5), " --slots N"));
        } else if (demand.amount > pool->slots) {
          add(FieldOf(demand.pool), "TOO_LARGE",
              absl::StrCat("pool `", pool->name, "` has ", pool->slots, " slots, the step takes ", demand.amount));
        }
        continue;
      }
      if (!IsCounted(offered[name], demand.pool)) continue;
      const auto offer = offered[name].find(demand.pool);
      const int64_t amount = offer == offered[name].end() ? 0 : offer->second;
      if (demand.amount > amount) {
        add(FieldOf(demand.pool), "TOO_LARGE",
            absl::StrCat(demand.pool, " ", Shown(demand.pool, demand.amount), ": ", name, " offers ",
                         Shown(demand.pool, amount)));
      }
    }
    for (const SecretUse& use : options.secrets) {
      const auto secret =
          std::find_if(now.secrets.begin(), now.secrets.end(), [&](const SecretRow& s) { return s.name == use.name; });
      const std::string field = absl::StrCat("secrets.", use.variable);
      if (secret == now.secrets.end()) {
        add(field, "UNKNOWN_REFERENCE",
            absl::StrCat("there is no secret `", use.name, "`; set it: orchctl set-secret ", use.name));
      } else if (!secret->text && !use.file) {
        add(field, "WRONG_TYPE",
            absl::StrCat("secret `", use.name, "` has a zero byte, which no variable can hold; write {name: ", use.name,
                         ", file: true}"));
      }
    }
    const std::string& kind = options.resources.gpu_kind;
    const auto has = gpu_kinds.find(name);
    if (options.resources.gpu > 0 && !kind.empty() && has != gpu_kinds.end() && has->second != kind) {
      add("resources.gpu.kind", "UNKNOWN_REFERENCE",
          absl::StrCat("gpu ", kind, ": ", name, " offers ",
                       has->second.empty() ? "GPUs of no named kind (its configuration may say `gpus: {devices, kind}`)"
                                           : has->second));
    }
    std::string settings;
    const std::string flavor = outbox_->FlavorOf(name);
    for (const auto& [of, text] : options.settings) {
      if (of == flavor) {
        settings = text;
      } else if (FindFlavor(of) == nullptr) {
        add(absl::StrCat("settings.", of), "UNKNOWN_REFERENCE", absl::StrCat("there is no flavor `", of, "`"));
      }
    }
    if (const auto backend = outbox_->FindBackend(name)) {
      for (const std::string& fault : backend->Check(options.resources, settings)) {
        add(absl::StrCat("settings.", flavor), "WRONG_TYPE", fault);
      }
      for (const Violation& fault :
           backend->CheckStep({options.resources, options.image, options.image_build, !options.secrets.empty()})) {
        add(fault.field, fault.reason, fault.description);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OrchestratorRow> EngineImpl::PutOrchestrator(OrchestratorRow row, int64_t expected_version,
                                                            bool validate_only, int64_t deadline_micros) {
  MutexLock change(&component_changes_);
  Components now = components();
  bool limits_only = false;
  const auto old = std::find_if(now.orchestrators.begin(), now.orchestrators.end(),
                                [&](const OrchestratorRow& r) { return r.name == row.name; });
  if (old != now.orchestrators.end()) {
    const bool same_backend = old->flavor == row.flavor && old->config_json == row.config_json;
    const bool same = same_backend && old->max_parallel == row.max_parallel && old->rate_milli == row.rate_milli;
    if (same && outbox_->FindBackend(row.name) != nullptr) return *old;
    limits_only = same_backend && !same;  // else one that could not be started is tried again
    if (expected_version == 0 && !same) {
      return Error(absl::StatusCode::kAlreadyExists, "ORCHESTRATOR_EXISTS",
                   absl::StrCat("orchestrator `", row.name, "` exists with another configuration; use orchctl apply"));
    }
    if (expected_version > 0 && expected_version != old->version) {
      return Error(absl::StatusCode::kAborted, "VERSION_CONFLICT",
                   absl::StrCat("orchestrator `", row.name, "` is at version ", old->version, ", not ",
                                expected_version, "; read it again"));
    }
    if (old->flavor != row.flavor) {
      return Error(absl::StatusCode::kFailedPrecondition, "FLAVOR_FIXED",
                   absl::StrCat("orchestrator `", row.name, "` is of flavor `", old->flavor,
                                "`, which does not change; delete it or choose another name"));
    }
    row.created = old->created;
    row.version = same ? old->version : old->version + 1;
  } else {
    if (expected_version > 0) return NoOrchestrator(row.name);
    row.created = Clock::Real().Now().wall;
    row.version = 1;
  }
  row.updated = Clock::Real().Now().wall;
  if (limits_only) {  // what runs there goes on
    const auto serving = outbox_->FindBackend(row.name);
    if (validate_only) return row;
    Post post;
    post.rows = std::make_unique<Batch>();
    post.rows->orchestrators.push_back(row);
    post.event = OrchestratorChanged{row.name, true, serving == nullptr ? ByPool({}) : ByPool(serving->capacity()),
                                     row.max_parallel, row.rate_milli};
    if (serving == nullptr) post.event.reset();  // not in service: the next start takes the row
    const absl::Status stored = PostAndWait(std::move(post), deadline_micros);
    if (stored.ok() || WillBeStored(stored)) NoteOrchestrator(row);
    RETURN_IF_ERROR(stored);
    return row;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend(row, /*registered=*/false));
  if (validate_only) return row;
  const bool changed = old != now.orchestrators.end();
  RETURN_IF_ERROR(CloseOrchestrator(row.name, "is being changed", " (max_parallel and max_rate change at any time)",
                                    deadline_micros));
  const auto open = absl::MakeCleanup([this, name = row.name] { outbox_->Open(name); });  // the row goes before it
  const auto back = [&] {
    if (!changed) {
      outbox_->RemoveBackend(row.name);
    } else if (!stopping_) {
      RestoreOrchestrator(*old);
    }
  };
  outbox_->SetFlavor(row.name, row.flavor);
  const absl::Status started = outbox_->AddBackend(row.name, std::move(backend));
  if (!started.ok()) {
    back();
    return started;
  }
  outbox_->AdoptLate(row.name);
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->orchestrators.push_back(row);
  post.event = OrchestratorChanged{row.name, true, ByPool(outbox_->FindBackend(row.name)->capacity()), row.max_parallel,
                                   row.rate_milli};
  const absl::Status stored = PostAndWait(std::move(post), deadline_micros);
  if (!stored.ok() && !WillBeStored(stored)) {
    back();
    return stored;
  }
  NoteOrchestrator(row);
  RETURN_IF_ERROR(stored);
  return row;
}

// It served before.
void EngineImpl::RestoreOrchestrator(const OrchestratorRow& row) {
  const absl::Status status = PutInService(row);
  if (status.ok()) {
    outbox_->AdoptLate(row.name);
    return;
  }
  Log(LogLevel::kError, "orchestrator not in service", {{"orchestrator", row.name}, {"why", status.message()}});
  Post post;  // nothing is granted there any more
  post.event = OrchestratorChanged{row.name, false, {}, 0, 0};
  mailbox_.Put(std::move(post));
}

void EngineImpl::NoteOrchestrator(const OrchestratorRow& row) {
  MutexLock lock(&mutex_);
  auto& list = components_.orchestrators;
  const auto place =
      std::find_if(list.begin(), list.end(), [&](const OrchestratorRow& r) { return r.name == row.name; });
  if (place != list.end()) {
    *place = row;
  } else {
    list.push_back(row);
  }
}

absl::Status EngineImpl::CloseOrchestrator(const std::string& name, std::string why, absl::string_view hint,
                                           int64_t deadline_micros) {
  ASSIGN_OR_RETURN(const auto health, HealthOf({name}, deadline_micros));
  const auto known = health.find(name);
  const bool runs = known != health.end() && known->second.running > 0;
  const std::chrono::microseconds patience(runs ? 0 : std::min(kCleanUpMicros, deadline_micros / 2));
  if (outbox_->CloseWhenIdle(name, std::move(why), std::chrono::duration_cast<std::chrono::milliseconds>(patience))) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kFailedPrecondition, "ORCHESTRATOR_IN_USE",
               absl::StrCat("orchestrator `", name, "` has attempts that run, or what they made there is still being ",
                            "cleaned up: try again when their runs have ended", hint));
}

absl::Status EngineImpl::DeleteOrchestrator(absl::string_view project, absl::string_view name, Asked asked,
                                            int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
  MutexLock change(&component_changes_);
  const Components now = components();
  const std::string wanted(name);
  if (std::none_of(now.orchestrators.begin(), now.orchestrators.end(),
                   [&](const OrchestratorRow& r) { return r.name == wanted; })) {
    return NoOrchestrator(name);
  }
  for (const StackRow& stack : now.stacks) {
    if (stack.orchestrator == wanted) {
      return Error(absl::StatusCode::kFailedPrecondition, "ORCHESTRATOR_IN_USE",
                   absl::StrCat("stack `", stack.name, "` names orchestrator `", name, "`"));
    }
  }
  // Were it removed with attempts to let go of, what they made would stay there for good.
  RETURN_IF_ERROR(CloseOrchestrator(wanted, "is being deleted", "", deadline_micros));
  const auto open = absl::MakeCleanup([&] { outbox_->Open(wanted); });
  const auto backend = outbox_->FindBackend(wanted);
  if (backend != nullptr && !backend->FinishReleases(std::chrono::milliseconds(kCleanUpMicros / 1000))) {
    Log(LogLevel::kWarning, "an orchestrator is deleted, and something of ours may be left there",
        {{"orchestrator", wanted}});
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_orchestrators.emplace_back(std::string(project), wanted);
  post.event = OrchestratorRemoved{wanted};
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  outbox_->RemoveBackend(wanted);
  MutexLock lock(&mutex_);
  auto& list = components_.orchestrators;
  list.erase(std::remove_if(list.begin(), list.end(), [&](const OrchestratorRow& r) { return r.name == wanted; }),
             list.end());
  return absl::OkStatus();
}

absl::Status EngineImpl::PutPool(PoolRow row, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  MutexLock change(&component_changes_);
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->pools.push_back(row);
  post.event = PoolChanged{row.name, row.slots, true};
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  auto& list = components_.pools;
  const auto place = std::find_if(list.begin(), list.end(), [&](const PoolRow& p) { return p.name == row.name; });
  if (place != list.end()) {
    *place = std::move(row);
  } else {
    list.push_back(std::move(row));
  }
  return absl::OkStatus();
}

absl::Status EngineImpl::DeletePool(absl::string_view name, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return ForgetDeleted();
  MutexLock change(&component_changes_);
  const std::string wanted(name);
  const Components now = components();
  if (std::none_of(now.pools.begin(), now.pools.end(), [&](const PoolRow& p) { return p.name == wanted; })) {
    return Error(absl::StatusCode::kNotFound, "POOL_NOT_FOUND", absl::StrCat("there is no pool `", name, "`"));
  }
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->deleted_pools.push_back(wanted);
  post.event = PoolChanged{wanted, 0, false};
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  MutexLock lock(&mutex_);
  auto& list = components_.pools;
  list.erase(std::remove_if(list.begin(), list.end(), [&](const PoolRow& p) { return p.name == wanted; }), list.end());
  return absl::OkStatus();
}

Capacity EngineImpl::OrchestratorCapacity(absl::string_view, absl::string_view name) {
  const auto backend = outbox_->FindBackend(std::string(name));
  return backend != nullptr ? backend->capacity() : Capacity();
}

}  // namespace orch
