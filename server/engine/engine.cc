// Start and stop, and the calls of handlers that concern runs. Orchestrators and pools are in components.cc.
#include "server/engine/engine.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "backends/api/registry.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/planted.h"
#include "server/core/cache_warnings.h"
#include "server/core/numbering.h"
#include "server/engine/engine_impl.h"
#include "server/engine/outputs.h"
#include "server/engine/parameters.h"

namespace orch {
namespace {

// 32 random bytes that sign step tokens; made once.
absl::StatusOr<std::string> TokenKey(const std::string& data_dir) {
  const std::string path = data_dir + "/step-token-key";
  if (FILE* in = fopen(path.c_str(), "re")) {
    std::string key(32, '\0');
    const size_t n = fread(key.data(), 1, key.size(), in);
    fclose(in);
    if (n == key.size()) return key;
  }
  const std::string key = RandomBytes(32);
  const mode_t old = umask(077);
  FILE* out = fopen(path.c_str(), "we");
  umask(old);
  if (out == nullptr || fwrite(key.data(), 1, key.size(), out) != key.size() || fclose(out) != 0) {
    return Error(absl::StatusCode::kInternal, "DATA_DIR_UNUSABLE",
                 absl::StrCat("cannot write ", path, ": ", strerror(errno)));
  }
  return key;
}

// A submission does not look into the cache for longer.
constexpr int64_t kFindMicros = 2'000'000;

void AddTo(std::vector<Violation>* all, std::vector<Violation> more) {
  all->insert(all->end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

std::string RunNameOf(const std::string& pipeline, int64_t wall) {
  return absl::StrCat(pipeline.substr(0, 160), "-",
                      absl::FormatTime("%Y%m%d-%H%M%E6S", absl::FromUnixMicros(wall), absl::UTCTimeZone()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Start(EngineOptions options) {
  auto engine = std::make_unique<EngineImpl>(std::move(options));
  RETURN_IF_ERROR(engine->Open());
  return std::unique_ptr<Engine>(std::move(engine));
}

absl::Status EngineImpl::Open() {
  const Now now = Clock::Real().Now();
  store::StoreOptions store_options;
  store_options.data_dir = options_.data_dir;
  ASSIGN_OR_RETURN(writer_, store::Writer::Open(store_options, now));
  ASSIGN_OR_RETURN(queries_, store::Queries::Open({options_.data_dir}));
  ASSIGN_OR_RETURN(blob_queries_, store::Queries::Open({options_.data_dir, 2}));
  const store::Meta& meta = writer_->meta();
  instance_ = meta.instance;
  epoch_ = meta.epoch;
  ASSIGN_OR_RETURN(blobs_,
                   BlobStore::Open(options_.data_dir, options_.limits.inline_blob_bytes,
                                   [this](absl::string_view digest) { return blob_queries_->GetBlob(digest); }));
  stores_ = std::make_unique<ArtifactStores>(blobs_.get(), blob_queries_.get());
  blobs_->SetFetch([this](const BlobRow& row, const std::string& to) { return stores_->Fetch(row, to); });
  cache_ = std::make_unique<CacheLookup>(queries_.get(), blobs_.get());
  history_ = std::make_unique<StepHistory>(queries_.get());
  inputs_ = std::make_unique<Inputs>(options_.data_dir, queries_.get(), blobs_.get(), &files_);
  conditions_ = std::make_unique<Conditions>(options_.binary_dir + "/orch-jq", inputs_.get());
  catalog_ = std::make_unique<Catalog>(options_, meta.next_pipeline_id, queries_.get(), &mailbox_);
  run_graphs_ = std::make_unique<RunGraphs>(catalog_.get(), queries_.get());
  ASSIGN_OR_RETURN(std::string token_key, TokenKey(options_.data_dir));
  tokens_ = std::make_unique<StepTokens>(std::move(token_key));
  secrets_ = std::make_unique<Secrets>(options_.data_dir + "/secret-key");
  deliveries_ = std::make_unique<Deliveries>(
      options_.data_dir,
      DeliveryLimits{options_.limits.artifact_bytes, options_.limits.folder_entries, options_.limits.uploads_at_once});
  deliveries_->SetVouch([this](const std::string& path, absl::string_view digest) { blobs_->Vouch(path, digest); });
  left_ = std::make_unique<LeftBehind>(deliveries_.get(), stores_.get(), options_.limits.artifact_bytes,
                                       options_.limits.folder_entries);
  whole_runs_ = std::make_unique<WholeRuns>(options_, instance_, tokens_.get(), queries_.get(), deliveries_.get());
  workshop_ = std::make_unique<FileWorkshop>(
      options_, tokens_.get(), cache_.get(), queries_.get(), blobs_.get(), &sources_, inputs_.get(), conditions_.get(),
      secrets_.get(), run_graphs_.get(), deliveries_.get(), stores_.get(), left_.get(), whole_runs_.get());
  step_files_ = std::make_unique<StepFiles>(
      &sources_, deliveries_.get(), blobs_.get(),
      StepFileLimits{options_.limits.source_bytes, options_.limits.launcher_patience_seconds,
                     options_.limits.handed_inline_bytes, options_.limits.handed_bytes, options_.limits.folder_entries},
      [this](const std::string& key) { return SecretsOf(key); }, stores_.get());
  workshop_->SetHand([this](const std::string& key) { return step_files_->Hand(key); });
  outbox_ = std::make_unique<Outbox>(workshop_.get(), &executor_, &mailbox_);
  outbox_->SetLeftPatience(std::chrono::seconds(options_.limits.left_patience_seconds));
  outbox_->SetPlacePatience(std::chrono::seconds(options_.limits.place_patience_seconds));
  cleaner_ = std::make_unique<Cleaner>(queries_.get(), blobs_.get(), stores_.get(), &mailbox_,
                                       [this] { return outbox_->Backends(); });
  hub_ = std::make_unique<Hub>(meta.last_sequence, 16'384);
  backups_ = std::make_unique<Backups>(options_.data_dir, options_.backup, [this] { return commits_.load(); });
  pruner_ = std::make_unique<Pruner>(
      queries_.get(), hub_.get(), [this] { return outbox_->Backends(); },
      [this](Removals removals) { return Remove(std::move(removals)); },
      [this](std::vector<RunKey> runs) { return DeleteRuns(std::move(runs), {}, kPruneMicros); },
      [this](RunKey run) { return HoldRun(run); });
  CorePolicy policy;
  policy.instance = instance_;
  policy.first_sequence = meta.last_sequence + 1;
  policy.first_run_key = meta.next_run_key;
  policy.first_artifact_id = meta.next_artifact_id;
  policy.grace_micros = options_.grace_micros;
  policy.live_runs = options_.limits.live_runs;
  policy.limits = CompileLimitsOf(options_.limits);
  policy.reserve_after_micros = options_.reserve_after_micros;
  policy.breaker.failures = options_.limits.breaker_failures;
  policy.hooks.at_once = static_cast<int>(options_.limits.hooks_at_once);
  policy.hooks.limit_micros = options_.limits.hook_seconds * 1'000'000;
  policy.hooks.grace_micros = options_.grace_micros;
  core_ = std::make_unique<Dispatcher>(policy);
  outbox_->SetHookBackend([this]() {
    OrchestratorRow row;
    row.name = kHookOrchestrator;
    row.flavor = "local";
    return MakeBackend(row, /*registered=*/true);
  });
  turn_ = std::make_unique<Turn>(&Clock::Real(), core_.get(), writer_.get(), static_cast<TurnSink*>(this));
  RETURN_IF_ERROR(LoadFlavors());
  RETURN_IF_ERROR(LoadComponents());
  RETURN_IF_ERROR(RestoreRuns());
  RETURN_IF_ERROR(RestoreHooks());
  const auto live = core_->LiveAttempts();
  const absl::Status sane = core_->CheckInvariants();
  if (!sane.ok()) Log(LogLevel::kError, "the restored state is not sane", {{"why", sane.message()}});
  PublishStats();
  {
    MutexLock lock(&mutex_);
    stats_.status = "SERVING";
  }
  std::set<std::string> keys;
  for (const auto& [attempt, step] : live) {
    keys.insert(attempt.key);
    const absl::Status pinned = inputs_->PinAgain(attempt);
    if (!pinned.ok()) Log(LogLevel::kWarning, "its inputs may go", {{"step", step}, {"why", pinned.message()}});
  }
  deliveries_->RemoveOthers(keys);
  ORCH_FAULT("start.before_adopt");
  outbox_->Adopt(live, options_.grace_micros, options_.limits.log_bytes);
  if (const absl::Status adopted = AdoptHooks(); !adopted.ok()) {
    Log(LogLevel::kError, "hooks do not run", {{"why", adopted.message()}});
  }
  ORCH_FAULT("start.adopted");
  loop_ = std::thread([this] { Loop(); });
  cleaner_->Start();
  pruner_->Start(options_.retention);
  backups_->Start();
  return absl::OkStatus();
}

absl::Status EngineImpl::RestoreRuns() {
  const Now now = Clock::Real().Now();
  ASSIGN_OR_RETURN(const std::vector<RunKey> keys, writer_->LiveRunKeys());
  ORCH_FAULT("start.restoring");
  for (const RunKey key : keys) {
    ASSIGN_OR_RETURN(store::LiveRun live, writer_->LoadRun(key));
    ASSIGN_OR_RETURN(const auto pipeline, catalog_->Load(live.header.pipeline_id));
    ASSIGN_OR_RETURN(auto graph, StoredGraph(pipeline->graph, live.numbering, live.fanouts));
    ASSIGN_OR_RETURN(auto context, MakeRunContext(live.header, graph, live.row.generation));
    outbox_->AddRun(std::move(context));
    StoredRun stored{std::move(live.header), std::move(live.row),      std::move(graph),
                     std::move(live.steps),  std::move(live.attempts), std::move(live.artifacts)};
    core_->Restore(std::move(stored), now);
    ORCH_FAULT("start.restored_run");
  }
  if (!keys.empty()) Log(LogLevel::kInfo, "runs restored", {{"runs", keys.size()}});
  return absl::OkStatus();
}

void EngineImpl::Shutdown() {
  if (stopping_.exchange(true)) return;
  {
    MutexLock lock(&mutex_);
    stats_.status = "DRAINING";
  }
  if (hub_ != nullptr) hub_->Close();
  if (backups_ != nullptr) backups_->Stop();
  if (pruner_ != nullptr) pruner_->Stop();
  if (outbox_ != nullptr) outbox_->Abandon();
  if (stores_ != nullptr) stores_->Stop();
  if (cleaner_ != nullptr) cleaner_->Stop();
  if (outbox_ != nullptr) outbox_->Stop();
  ORCH_FAULT("stop.effects");
  mailbox_.Close();
  if (loop_.joinable()) loop_.join();
  ORCH_FAULT("stop.loop");
}

absl::Status EngineImpl::PostAndWait(Post post, int64_t deadline_micros, int64_t* number) {
  auto receipt = std::make_shared<Receipt>();
  post.receipt = receipt;
  RETURN_IF_ERROR(mailbox_.Offer(std::move(post)));
  const absl::Status status = receipt->Wait(deadline_micros);
  if (number != nullptr && status.ok()) *number = receipt->number();
  return status;
}

absl::Status EngineImpl::RefuseWhenFull() {
  if (!writer_->LowOnSpace()) return absl::OkStatus();
  return WithRetryDelay(
      Error(absl::StatusCode::kResourceExhausted, "DISK_FULL",
            absl::StrCat("the disk of ", options_.data_dir,
                         " is almost full; what is accepted goes on, new work is refused: free space")),
      5000);
}

absl::Status EngineImpl::RefuseTooManyRuns() {
  MutexLock lock(&mutex_);
  // As it was a moment ago, before any work; the loop looks again.
  return CheckRoomForRun(stats_.live_runs, options_.limits.live_runs);
}

absl::StatusOr<store::RunRecord> EngineImpl::SubmitRun(SubmitCommand command, int64_t deadline_micros) {
  RETURN_IF_ERROR(RefuseWhenFull());
  const Now now = Clock::Real().Now();
  ASSIGN_OR_RETURN(Asked asked,
                   Ask({"SubmitRun", command.project, command.request_id, command.fingerprint, "", now.wall}));
  if (asked.answer.has_value() && !ORCH_PLANTED("double_ack")) return queries_->FindRun(command.project, *asked.answer);
  ASSIGN_OR_RETURN(const Place place, PlaceOf(command));
  const std::string& orchestrator = place.orchestrator;
  const std::string pipeline_name = command.pipeline().name;
  // Everything is checked before anything is stored, and all faults are told at once.
  std::vector<Violation> violations;
  RETURN_IF_ERROR(CheckAgainstComponents(orchestrator, place.artifact_store, command.pipeline(), &violations));
  FilledParameters parameters = FillParameters(command.pipeline(), command.parameters_json, false);
  violations.insert(violations.end(), parameters.violations.begin(), parameters.violations.end());
  AddTo(&violations, conditions_->Check(command.pipeline(), parameters.violations.empty() ? parameters.json : ""));
  auto checked = catalog_->Check(&command);
  if (!checked.ok()) {
    std::vector<Violation> all = ViolationsOf(checked.status());
    if (all.empty()) return checked.status();
    all.insert(all.end(), violations.begin(), violations.end());
    return PipelineInvalid(pipeline_name, all);
  }
  if (!violations.empty()) return PipelineInvalid(pipeline_name, violations);
  std::shared_ptr<const CompiledPipeline> pipeline = *std::move(checked);

  const std::string name = command.name.empty() ? RunNameOf(pipeline_name, name_times_.Next(now.wall)) : command.name;
  std::shared_ptr<const void> name_hold = Hold(absl::StrCat("run/", command.project, "/", name));
  ASSIGN_OR_RETURN(const bool taken, queries_->HasRun(command.project, name));
  if (taken) {
    return Error(absl::StatusCode::kAlreadyExists, "RUN_NAME_TAKEN",
                 absl::StrCat("there is a run `", name, "` already; choose another --name"));
  }
  RETURN_IF_ERROR(RefuseTooManyRuns());
  ASSIGN_OR_RETURN(pipeline, catalog_->Store(std::move(pipeline), command.spec_bytes, now.wall));
  ORCH_FAULT("submit.pipeline_stored");

  RunSubmitted event;
  RunHeader& header = event.header;
  header.id = NewUuid(now.wall);
  header.project = command.project;
  header.name = name;
  header.pipeline_id = pipeline->row.id;
  header.pipeline = pipeline_name;
  header.pipeline_version = pipeline->row.version;
  header.orchestrator = orchestrator;
  header.artifact_store = place.artifact_store;
  header.stack = command.stack;
  header.parameters_json = std::move(parameters.json);
  header.labels = pipeline->graph->spec().labels;
  for (auto& label : command.labels) {
    auto old =
        std::find_if(header.labels.begin(), header.labels.end(), [&](const auto& l) { return l.first == label.first; });
    if (old != header.labels.end()) {
      old->second = label.second;
    } else {
      header.labels.push_back(label);
    }
  }
  header.submitter_host = command.submitter_host;
  header.source_dir = command.source_dir;
  header.environment = std::move(command.environment);
  header.execution_mode = command.execution_mode.value_or(pipeline->graph->spec().execution_mode);
  header.max_parallel = command.max_parallel > 0 ? command.max_parallel : pipeline->graph->spec().max_parallel;
  header.priority = command.priority;
  header.use_cache = command.use_cache;
  header.timeout_micros = command.timeout_micros > 0 ? command.timeout_micros : pipeline->graph->spec().timeout_micros;
  header.created = now.wall;
  event.graph = pipeline->graph;

  Post post;
  post.hold = std::move(name_hold);
  Remember(std::move(asked), header.id, &post);
  ASSIGN_OR_RETURN(post.run, MakeRunContext(event.header, event.graph));
  event.found = FindHits(*post.run, cache_.get(), &sources_, std::min(kFindMicros, deadline_micros / 4));
  ORCH_FAULT("submit.cache_asked");
  post.event = std::move(event);
  RunKey key = 0;
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros, &key));
  return queries_->GetRun(key);
}

absl::StatusOr<CheckedPipeline> EngineImpl::CheckPipeline(const SubmitCommand& command) {
  CheckedPipeline out;
  ASSIGN_OR_RETURN(PipelineSpec spec, options_.parse_spec(command.spec_bytes));
  std::vector<Violation> others;
  if (const absl::StatusOr<Place> place = PlaceOf(command); !place.ok()) {
    others.push_back({"stack", std::string(place.status().message()), ReasonOf(place.status())});
  } else if (const absl::Status refusal =
                 CheckAgainstComponents(place->orchestrator, place->artifact_store, spec, &others);
             !refusal.ok()) {
    others.push_back({"orchestrator", std::string(refusal.message()), ReasonOf(refusal)});
  }
  const FilledParameters parameters = FillParameters(spec, command.parameters_json, true);
  others.insert(others.end(), parameters.violations.begin(), parameters.violations.end());
  out.warnings = CacheWarnings(spec);
  AddTo(&others, conditions_->Check(spec, ""));
  Compiled compiled = Compile(std::move(spec), CompileLimitsOf(options_.limits));
  out.violations = std::move(compiled.violations);
  out.violations.insert(out.violations.end(), others.begin(), others.end());
  out.warnings.insert(out.warnings.end(), compiled.warnings.begin(), compiled.warnings.end());
  if (compiled.graph != nullptr && out.violations.empty()) out.step_count = compiled.graph->step_count();
  return out;
}

absl::StatusOr<PipelineRow> EngineImpl::RegisterPipeline(SubmitCommand command, int64_t deadline_micros) {
  RETURN_IF_ERROR(RefuseWhenFull());
  const std::string name = command.spec.name;
  std::vector<Violation> violations = conditions_->Check(command.spec, "");
  auto checked = catalog_->Check(&command);
  if (!checked.ok()) {
    std::vector<Violation> all = ViolationsOf(checked.status());
    if (all.empty()) return checked.status();
    AddTo(&all, std::move(violations));
    return PipelineInvalid(name, all);
  }
  if (!violations.empty()) return PipelineInvalid(name, violations);
  std::shared_ptr<const CompiledPipeline> pipeline = *std::move(checked);
  ASSIGN_OR_RETURN(pipeline, catalog_->Store(std::move(pipeline), command.spec_bytes, Clock::Real().Now().wall));
  RETURN_IF_ERROR(PostAndWait(Post(), deadline_micros));  // behind its rows
  return pipeline->row;
}

absl::StatusOr<ArtifactId> EngineImpl::PublishArtifact(PublishCommand command, int64_t deadline_micros) {
  const auto stale = Error(absl::StatusCode::kFailedPrecondition, "ATTEMPT_STALE",
                           "this attempt is not running any more; what it publishes now is not taken");
  const auto attempt = outbox_->FindAttempt(command.fence);
  if (!attempt.has_value() || attempt->ref.run != command.run || attempt->ref.ix != command.ix ||
      (command.attempt != 0 && attempt->ref.attempt != command.attempt)) {
    return stale;
  }
  const auto run = outbox_->FindRun(command.run);
  if (run == nullptr) return stale;
  const std::vector<OutputSpec>& outputs = run->graph->SpecOf(command.ix).outputs;
  const auto spec =
      std::find_if(outputs.begin(), outputs.end(), [&](const OutputSpec& o) { return o.name == command.output; });
  if (spec == outputs.end()) {
    return Error(
        absl::StatusCode::kNotFound, "OUTPUT_NOT_FOUND",
        absl::StrCat("step `", run->graph->StepName(command.ix), "` declares no output `", command.output, "`"));
  }
  // Kept until the commit, however long the caller waits for it: the next one then finds what this one has published.
  const auto hold = Hold(absl::StrCat("publish/", command.fence, "/", command.output));
  ASSIGN_OR_RETURN(
      StoredOutput stored,
      StoreOutput(*spec, static_cast<uint32_t>(spec - outputs.begin()), attempt->output_dir,
                  options_.limits.value_bytes, /*keep=*/true,
                  attempt->delivers ? deliveries_->DigestOf(command.fence, spec->name) : "", blobs_.get()));
  stored.metadata_json = command.metadata_json;
  if (!run->header.artifact_store.empty() && !stored.value_json.has_value()) {
    RETURN_IF_ERROR(stores_->Keep(run->header.artifact_store, &stored.blob));
  }
  store::ArtifactFilter filter;
  filter.project = run->header.project;
  filter.run = command.run;
  filter.ix = command.ix;
  ASSIGN_OR_RETURN(const auto before, queries_->ListArtifacts(filter, 0, 1000));
  for (const store::ArtifactRecord& artifact : before) {
    if (artifact.row.output != command.output || artifact.row.attempt != attempt->ref.attempt) continue;
    if (artifact.row.digest == stored.blob.digest) return artifact.row.id;
    return Error(absl::StatusCode::kAlreadyExists, "OUTPUT_PUBLISHED",
                 absl::StrCat("output `", command.output, "` was published with other bytes; a publication is final"));
  }
  Post post;
  post.event = ArtifactPublished{attempt->ref, std::move(stored)};
  post.hold = hold;
  ORCH_FAULT("publish.stored");
  int64_t id = 0;
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros, &id));
  return id;
}

absl::StatusOr<std::shared_ptr<const Graph>> EngineImpl::LoadGraph(const RunHeader& run) {
  return run_graphs_->Load(run);
}

bool EngineImpl::HasOwnEnvironment(const std::string& orchestrator) {
  const auto backend = outbox_->FindBackend(orchestrator);
  return backend != nullptr && backend->has_own_environment();
}

std::shared_ptr<const CompiledPipeline> EngineImpl::FindCompiled(const std::string& project, const std::string& name,
                                                                 const std::string& digest) {
  return catalog_->FindCompiled(project, name, digest);
}

absl::StatusOr<std::shared_ptr<const CompiledPipeline>> EngineImpl::LoadPipeline(int64_t pipeline_id) {
  return catalog_->Load(pipeline_id);
}

absl::StatusOr<std::unique_ptr<LogReader>> EngineImpl::OpenLog(const store::RunRecord& run, StepIx ix,
                                                               const AttemptRow& attempt, LogStreamName stream) {
  const auto backend = outbox_->FindBackend(attempt.orchestrator);
  if (backend == nullptr) {
    return Error(absl::StatusCode::kFailedPrecondition, "ORCHESTRATOR_NOT_FOUND",
                 absl::StrCat("orchestrator `", attempt.orchestrator, "` is not registered any more"));
  }
  return backend->OpenLog({run.header.id, ix, attempt.number, attempt.handle}, stream);
}

absl::StatusOr<std::string> EngineImpl::ArtifactPath(absl::string_view digest) { return blobs_->PathOf(digest); }

absl::StatusOr<AttemptIdentity> EngineImpl::AuthenticateStep(absl::string_view token) {
  const std::optional<std::string> key = tokens_->KeyOf(token);
  const auto attempt = key.has_value() ? outbox_->FindAttempt(*key) : std::nullopt;
  if (!attempt.has_value()) {
    return Error(absl::StatusCode::kUnauthenticated, "TOKEN_INVALID", "this token is not, or no longer, valid");
  }
  return AttemptIdentity{attempt->ref.run, attempt->ref.ix, attempt->ref.attempt, *key};
}

absl::StatusOr<TaskIdentity> EngineImpl::AuthenticateTask(absl::string_view token) {
  const std::optional<TaskIdentity> task = whole_runs_->TaskOf(token);
  if (task.has_value()) return *task;
  return Error(absl::StatusCode::kUnauthenticated, "TOKEN_INVALID", "this token is not valid");
}

absl::StatusOr<NextAttempt> EngineImpl::FindNext(const TaskIdentity& task, absl::string_view launcher) {
  return whole_runs_->Next(task, launcher, [this](const std::string& key) {
    const auto attempt = outbox_->FindAttempt(key);
    return attempt.has_value() && attempt->whole && deliveries_->TaskOf(key).ok();
  });
}

absl::StatusOr<std::string> EngineImpl::BeginAttempt(const AttemptIdentity& attempt, absl::string_view launcher) {
  ASSIGN_OR_RETURN(std::string task, step_files_->Begin(attempt.key, launcher));
  outbox_->LauncherBegan(attempt.key, PlaceOfLauncher(launcher));
  return task;
}

absl::Status EngineImpl::EndAttempt(const AttemptIdentity& attempt, absl::string_view text) {
  RETURN_IF_ERROR(deliveries_->PutEnd(attempt.key, text));
  outbox_->LauncherEnded(attempt.key);
  return absl::OkStatus();
}

StopAsked EngineImpl::StopOf(const AttemptIdentity& attempt) {
  const auto found = outbox_->FindAttempt(attempt.key);
  return found.has_value() ? found->stop : StopAsked::kNo;
}

absl::StatusOr<std::vector<SecretValue>> EngineImpl::SecretsOf(const std::string& key) {
  const auto attempt = outbox_->FindAttempt(key);
  const auto run = attempt.has_value() ? outbox_->FindRun(attempt->ref.run) : nullptr;
  if (run == nullptr) {
    return Error(absl::StatusCode::kFailedPrecondition, "ATTEMPT_STALE", "this attempt has ended");
  }
  std::vector<SecretValue> out;
  RETURN_IF_ERROR(workshop_->Resolve(*run, run->graph->SpecOf(attempt->ref.ix), &out));
  return out;
}

EngineStats EngineImpl::stats() {
  MutexLock lock(&mutex_);
  EngineStats out = stats_;
  out.mailbox_depth = static_cast<int64_t>(mailbox_.depth());
  return out;
}

std::map<std::string, int64_t> EngineImpl::PoolUse() {
  std::map<std::string, int64_t> out;
  MutexLock lock(&mutex_);
  for (const auto& [pool, used] : pool_use_) out[std::string(absl::StripPrefix(pool, "pool/"))] = used;
  return out;
}

}  // namespace orch
