#include "server/engine/effects.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/engine/cache_key.h"
#include "server/engine/outputs.h"
#include "server/engine/render.h"

namespace orch {
namespace {

constexpr int kSignatureBytes = 32;

Reason ReasonOfFailure(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  if (reason == "OUTPUT_MISSING") return Reason::kOutputMissing;
  if (reason == "OUTPUT_INVALID") return Reason::kOutputInvalid;
  if (reason == "INPUT_MISSING" || reason == "BLOB_MISSING") return Reason::kInputMissing;
  return Reason::kStoreFailed;
}

}  // namespace

// What one backend reports becomes events; reports about attempts that nobody waits for are dropped.
class Effects::Reports : public Listener {
 public:
  Reports(Effects* effects, std::string orchestrator) : effects_(effects), orchestrator_(std::move(orchestrator)) {}

  void Accepted(absl::string_view key, std::string handle, std::string external_id, std::string url) override {
    if (const auto a = Find(key)) {
      Put(a->ref.run, AttemptAccepted{a->ref, std::move(handle), std::move(external_id), std::move(url)}, false);
    }
  }
  void Refused(absl::string_view key, bool transient, Reason reason, std::string message) override {
    if (const auto a = Find(key)) Put(a->ref.run, AttemptRefused{a->ref, transient, reason, std::move(message)}, false);
  }
  void Unknown(absl::string_view key, std::string message) override {
    const auto a = Find(key);
    if (!a) return;
    Log(LogLevel::kWarning, "submission unknown", {{"orchestrator", orchestrator_}, {"key", key}, {"why", message}});
    // Asked again on the outbox: whatever the platform says then decides.
    effects_->outbox_.Add(a->ref.run, [effects = effects_, a = *a, k = std::string(key)] {
      if (const auto backend = effects->FindBackend(a.orchestrator)) {
        KnownAttempt known;
        known.name.key = k;
        known.name.step_index = a.ref.ix;
        known.name.attempt = a.ref.attempt;
        backend->Adopt({std::move(known)});
      }
    });
  }
  void Started(absl::string_view key, std::string external_id, std::string node, int64_t wall_micros) override {
    if (const auto a = Find(key)) {
      Put(a->ref.run, AttemptStarted{a->ref, std::move(external_id), std::move(node), wall_micros}, true);
    }
  }
  void Ended(absl::string_view key, AttemptEnd end) override {
    const auto a = Find(key);
    if (a) {
      if (!end.output_dir.empty()) effects_->SetOutputDir(std::string(key), end.output_dir);
      Put(a->ref.run, AttemptEnded{a->ref, std::move(end)}, true);
      return;
    }
    effects_->outbox_.Add(kOwnLane, [effects = effects_, name = orchestrator_, k = std::string(key)] {
      if (const auto backend = effects->FindBackend(name)) backend->Release(k);
    });
  }
  void NotFound(absl::string_view key) override {
    if (const auto a = Find(key)) Put(a->ref.run, AttemptNotFound{a->ref}, false);
  }
  void Lost(absl::string_view key, std::string message) override {
    const auto a = Find(key);
    if (!a) return;
    AttemptEnd end;
    end.reason = Reason::kLost;
    end.message = std::move(message);
    Put(a->ref.run, AttemptEnded{a->ref, std::move(end)}, false);
  }
  void HealthChanged(bool healthy, std::string message) override {
    Log(healthy ? LogLevel::kInfo : LogLevel::kWarning, healthy ? "orchestrator is back" : "orchestrator is away",
        {{"orchestrator", orchestrator_}, {"why", message}});
    Put(kOwnLane, OrchestratorHealthChanged{orchestrator_, healthy}, true);
  }

 private:
  std::optional<Attempt> Find(absl::string_view key) { return effects_->FindAttempt(std::string(key)); }
  void Put(int64_t lane, Event event, bool lazy) {
    Post post;
    post.lane = lane;
    post.event = std::move(event);
    post.lazy = lazy;
    effects_->mailbox_->Put(std::move(post));
  }

  Effects* const effects_;
  const std::string orchestrator_;
};

Effects::Effects(const EngineOptions& options, std::string token_key, store::Queries* queries, BlobStore* blobs,
                 FileDigests* files, Inputs* inputs, Mailbox* mailbox)
    : options_(options),
      token_key_(std::move(token_key)),
      queries_(queries),
      blobs_(blobs),
      files_(files),
      inputs_(inputs),
      mailbox_(mailbox) {}

Effects::~Effects() { Stop(); }

void Effects::Stop() {
  outbox_.Stop();
  workers_.Stop();
  std::map<std::string, Service> backends;
  {
    MutexLock lock(&mutex_);
    backends.swap(backends_);
  }
  for (auto& [name, service] : backends) service.backend->Stop();
}

void Effects::AddRun(std::shared_ptr<const RunContext> run) {
  MutexLock lock(&mutex_);
  runs_[run->header.key] = std::move(run);
}

void Effects::RemoveRun(RunKey run) {
  MutexLock lock(&mutex_);
  runs_.erase(run);
}

std::shared_ptr<const RunContext> Effects::FindRun(RunKey run) {
  MutexLock lock(&mutex_);
  const auto found = runs_.find(run);
  return found == runs_.end() ? nullptr : found->second;
}

absl::Status Effects::AddBackend(const std::string& name, std::unique_ptr<Backend> backend) {
  auto reports = std::make_shared<Reports>(this, name);
  RemoveBackend(name);  // first: two of one name would share their place on the platform
  RETURN_IF_ERROR(backend->Start(reports.get()));
  MutexLock lock(&mutex_);
  backends_[name] = {std::move(reports), std::shared_ptr<Backend>(std::move(backend))};
  return absl::OkStatus();
}

void Effects::RemoveBackend(const std::string& name) {
  Service service;
  {
    MutexLock lock(&mutex_);
    const auto found = backends_.find(name);
    if (found == backends_.end()) return;
    service = std::move(found->second);
    backends_.erase(found);
  }
  service.backend->Stop();
}

std::shared_ptr<Backend> Effects::FindBackend(const std::string& name) {
  MutexLock lock(&mutex_);
  const auto found = backends_.find(name);
  return found == backends_.end() ? nullptr : found->second.backend;
}

void Effects::Adopt(const std::vector<std::pair<AttemptRow, std::string>>& live) {
  std::map<std::string, std::vector<KnownAttempt>> by_orchestrator;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, service] : backends_) by_orchestrator[name];
    for (const auto& [row, step] : live) {
      attempts_[row.key] = {{row.run, row.ix, row.number}, row.orchestrator, ""};
      KnownAttempt known;
      known.name.key = row.key;
      known.name.step = step;
      known.name.step_index = row.ix;
      known.name.attempt = row.number;
      const auto run = runs_.find(row.run);
      if (run != runs_.end()) {
        known.name.project = run->second->header.project;
        known.name.run_id = run->second->header.id;
        known.name.run_name = run->second->header.name;
      }
      known.handle = row.handle;
      known.stopping = row.stopping;
      known.grace_micros = options_.grace_micros;
      by_orchestrator[row.orchestrator].push_back(std::move(known));
    }
  }
  for (auto& [name, attempts] : by_orchestrator) {
    const auto backend = FindBackend(name);
    if (backend == nullptr) continue;
    backend->Adopt(attempts);
    for (const KnownAttempt& known : attempts) {  // a step that was adopted may publish what is in its folder
      const auto workspace = backend->Prepare(known.name);
      if (workspace.ok()) SetOutputDir(known.name.key, workspace->output_dir);
    }
  }
}

std::optional<Effects::Attempt> Effects::FindAttempt(const std::string& key) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return std::nullopt;
  return found->second;
}

void Effects::SetOutputDir(const std::string& key, const std::string& dir) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found != attempts_.end()) found->second.output_dir = dir;
}

std::string Effects::TokenOf(const std::string& key) const {
  return absl::StrCat(key, ".", Hex(HmacSha256(token_key_, key)));
}

absl::StatusOr<Effects::Attempt> Effects::Authenticate(absl::string_view token) {
  const size_t dot = token.find('.');
  if (dot != absl::string_view::npos && token.size() == dot + 1 + 2 * kSignatureBytes) {
    const std::string key(token.substr(0, dot));
    const auto attempt = FindAttempt(key);
    if (attempt.has_value() && ConstantTimeEquals(token, TokenOf(key))) return *attempt;
  }
  return Error(absl::StatusCode::kUnauthenticated, "TOKEN_INVALID", "this token is not, or no longer, valid");
}

void Effects::Start(std::vector<Intent> intents) {
  for (Intent& intent : intents) {
    if (intent.kind == Intent::Kind::kSubmitAttempt) {
      MutexLock lock(&mutex_);
      attempts_.try_emplace(intent.key, Attempt{intent.ref, intent.orchestrator, ""});
    }
    const RunKey run = intent.ref.run;
    switch (intent.kind) {
      case Intent::Kind::kStoreOutputs:
        workers_.Add(run, [this, i = std::move(intent)] { Store(i); });
        break;
      case Intent::Kind::kResolveStep:
        workers_.Add(run, [this, i = std::move(intent)] { Resolve(i); });
        break;
      case Intent::Kind::kSubmitAttempt:
      case Intent::Kind::kCancelAttempt:
      case Intent::Kind::kReleaseAttempt:
        outbox_.Add(run, [this, i = std::move(intent)]() mutable { Perform(std::move(i)); });
        break;
    }
  }
}

void Effects::Perform(Intent intent) {
  ORCH_FAULT("effects.next");
  if (intent.kind == Intent::Kind::kSubmitAttempt) {
    Submit(intent);
    ORCH_FAULT("effects.submitted");
    return;
  }
  const auto backend = FindBackend(intent.orchestrator);
  if (intent.kind == Intent::Kind::kCancelAttempt) {
    if (backend != nullptr) backend->Cancel(intent.key, intent.forced ? CancelMode::kForced : CancelMode::kGraceful);
    ORCH_FAULT("effects.cancelled");
    return;
  }
  ORCH_FAULT("effects.before_release");
  {
    MutexLock lock(&mutex_);
    attempts_.erase(intent.key);
  }
  inputs_->Remove(intent.key);
  if (backend != nullptr) backend->Release(intent.key);
  ORCH_FAULT("effects.released");
}

void Effects::Refuse(const AttemptRef& ref, Reason reason, absl::string_view message) {
  Post post;
  post.lane = ref.run;
  post.event = AttemptRefused{ref, false, reason, std::string(message)};
  mailbox_->Put(std::move(post));
}

void Effects::Submit(const Intent& intent) {
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr) return;  // it has ended meanwhile
  const auto backend = FindBackend(intent.orchestrator);
  if (backend == nullptr) {
    Refuse(intent.ref, Reason::kSubmitRefused,
           absl::StrCat("orchestrator `", intent.orchestrator, "` is not in service"));
    return;
  }
  const auto inputs = inputs_->Make(*run, intent.ref.ix, intent.key, intent.inputs, /*paths=*/true);
  if (!inputs.ok()) {
    Refuse(intent.ref, ReasonOfFailure(inputs.status()), inputs.status().message());
    return;
  }
  RenderFacts facts;
  facts.run = run.get();
  facts.ix = intent.ref.ix;
  facts.attempt = intent.ref.attempt;
  facts.key = intent.key;
  facts.inputs = &*inputs;
  facts.endpoint = options_.step_endpoint;
  facts.token = TokenOf(intent.key);
  facts.binary_dir = options_.binary_dir;
  const auto params = blobs_->Materialize(ParamsOf(*run, run->graph->SpecOf(intent.ref.ix)));
  AttemptName name;
  name.key = intent.key;
  name.run_id = run->header.id;
  name.run_name = run->header.name;
  name.step_index = intent.ref.ix;
  name.attempt = intent.ref.attempt;
  const auto workspace = backend->Prepare(name);
  if (!params.ok() || !workspace.ok()) {
    const absl::Status& why = params.ok() ? workspace.status() : params.status();
    Refuse(intent.ref, Reason::kSubmitRefused, why.message());
    return;
  }
  facts.params_path = *params;
  facts.workspace = &*workspace;
  auto work = Render(facts);
  if (!work.ok()) {
    Refuse(intent.ref, Reason::kSubmitRefused, work.status().message());
    return;
  }
  work->grace_micros = options_.grace_micros;
  work->log_limit_bytes = options_.limits.log_bytes;
  for (const auto& [flavor, settings] : run->graph->SpecOf(intent.ref.ix).options().settings) {
    if (flavor == FlavorOf(intent.orchestrator)) work->settings_json = settings;
  }
  SetOutputDir(intent.key, workspace->output_dir);
  Unit unit;
  unit.key = intent.key;
  unit.attempts.push_back(*std::move(work));
  ORCH_FAULT("effects.prepared");
  backend->Submit(std::move(unit));
}

void Effects::Store(const Intent& intent) {
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr) return;
  OutputsStored event;
  event.ref = intent.ref;
  const std::vector<OutputSpec>& specs = run->graph->SpecOf(intent.ref.ix).outputs;
  ORCH_FAULT("store.before");
  auto stored = StoreOutputs(specs, intent.published, intent.output_dir, options_.limits.value_bytes, blobs_);
  if (stored.ok()) {
    event.outputs = *std::move(stored);
  } else {
    event.failure = ReasonOfFailure(stored.status());
    event.message = std::string(stored.status().message());
  }
  ORCH_FAULT("store.after");
  if (!intent.cache_key.empty() && event.failure == Reason::kNone) {
    // Were the files that the key was made of the same at the end?
    const auto inputs = inputs_->Make(*run, intent.ref.ix, intent.key, intent.inputs, /*paths=*/false);
    if (inputs.ok()) {
      const auto key = CacheKeyOf(*run, intent.ref.ix, *inputs, files_);
      event.source_changed = !key.ok() || key->key != intent.cache_key;
    } else {
      event.source_changed = true;
    }
  }
  Post post;
  post.lane = intent.ref.run;
  post.event = std::move(event);
  mailbox_->Put(std::move(post));
}

void Effects::Resolve(const Intent& intent) {
  StepResolved event;
  event.run = intent.ref.run;
  event.ix = intent.ref.ix;
  Post post;
  post.lane = intent.ref.run;
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr) return;
  const auto inputs = inputs_->Make(*run, intent.ref.ix, intent.key, intent.inputs, /*paths=*/false);
  auto key = inputs.ok() ? CacheKeyOf(*run, intent.ref.ix, *inputs, files_) : absl::StatusOr<CacheKey>(inputs.status());
  if (!key.ok()) {
    event.failure = ReasonOfFailure(key.status());
    event.message = std::string(key.status().message());
  } else if (!key->key.empty()) {
    event.cache_key = std::move(key->key);
    event.parts_json = std::move(key->parts_json);
    const auto found = queries_->FindCacheEntry(run->header.project, event.cache_key);
    if (!found.ok()) {
      Log(LogLevel::kWarning, "cache not asked", {{"run", run->header.name}, {"why", found.status().message()}});
    } else if (found->has_value()) {
      const store::Queries::CacheHit& hit = **found;
      const int64_t ttl = run->graph->SpecOf(intent.ref.ix).options().cache_ttl_micros;
      bool good = hit.artifacts.size() == run->graph->SpecOf(intent.ref.ix).outputs.size() &&
                  (ttl == 0 || Clock::Real().Now().wall - hit.entry.created <= ttl);
      for (size_t o = 0; good && o < hit.artifacts.size(); ++o) {
        const ArtifactRow& artifact = hit.artifacts[o];
        if (!artifact.value_json.has_value() && !blobs_->Exists(artifact.digest)) good = false;
        StoredOutput output;
        output.output = static_cast<uint32_t>(o);
        output.blob.digest = artifact.digest;
        output.blob.size = artifact.size;
        output.blob.directory = artifact.type == "dir";
        output.value_json = artifact.value_json;
        output.metadata_json = artifact.metadata_json;
        event.outputs.push_back(std::move(output));
      }
      event.hit = good;
      event.hit_run = hit.run_name;
      if (!good) event.outputs.clear();
    }
  }
  post.event = std::move(event);
  ORCH_FAULT("resolve.after");
  mailbox_->Put(std::move(post));
}

bool Effects::HasAttempts(const std::string& orchestrator) {
  MutexLock lock(&mutex_);
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.orchestrator == orchestrator) return true;
  }
  return false;
}

void Effects::SetFlavor(const std::string& orchestrator, const std::string& flavor) {
  MutexLock lock(&mutex_);
  flavors_[orchestrator] = flavor;
}

std::string Effects::FlavorOf(const std::string& orchestrator) {
  MutexLock lock(&mutex_);
  const auto found = flavors_.find(orchestrator);
  return found == flavors_.end() ? "" : found->second;
}

}  // namespace orch
