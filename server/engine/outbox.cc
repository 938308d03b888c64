#include "server/engine/outbox.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/planted.h"
#include "server/base/status.h"

namespace orch {
namespace {
constexpr size_t kFewIntents = 4;
constexpr size_t kReportsAhead = 10'000;
constexpr size_t kAskedTogether = 500;  // steps, in one look into the cache and one transaction
constexpr std::chrono::milliseconds kAskAgainFirst(500);
constexpr std::chrono::milliseconds kAskAgainMax(60'000);
}  // namespace

// What one backend reports becomes events; reports about attempts that nobody waits for are dropped.
class Outbox::Reports : public Listener {
 public:
  Reports(Outbox* outbox, std::string orchestrator) : outbox_(outbox), orchestrator_(std::move(orchestrator)) {}

  void Accepted(absl::string_view key, std::string handle, std::string external_id, std::string url) override {
    const auto known = Find(key);
    if (!known || known->hook) return;
    Put(known->ref.run, AttemptAccepted{known->ref, std::move(handle), std::move(external_id), std::move(url)}, false);
  }
  void Refused(absl::string_view key, bool transient, Reason reason, std::string message) override {
    const auto known = Find(key);
    if (!known) return;
    if (!known->hook) {
      return Put(known->ref.run, AttemptRefused{known->ref, transient, reason, std::move(message)}, false);
    }
    HookReported report{HookReported::What::kRefused, std::string(key), 0, {}};
    report.end.reason = reason;
    report.end.message = std::move(message);
    outbox_->PutHook(known->ref.run, std::move(report));
  }
  void Unknown(absl::string_view key, std::string message) override {
    const auto known = Find(key);
    if (!known) return;
    Log(LogLevel::kWarning, "submission unknown", {{"orchestrator", orchestrator_}, {"key", key}, {"why", message}});
    if (ORCH_PLANTED("drop_unknown")) return;
    // Asked again on the outbox: whatever the platform says then decides.
    outbox_->executor_->InOrder(known->ref.run,
                                [outbox = outbox_, name = orchestrator_, ref = known->ref, k = std::string(key)] {
                                  if (const auto backend = outbox->FindBackend(name)) {
                                    KnownAttempt attempt = outbox->Any();
                                    attempt.name.key = k;
                                    attempt.name.step_index = ref.ix;
                                    attempt.name.attempt = ref.attempt;
                                    if (const auto run = outbox->FindRun(ref.run)) {
                                      attempt.name.project = run->header.project;
                                      attempt.name.run_id = run->header.id;
                                      attempt.name.run_name = run->header.name;
                                      attempt.name.step = run->graph->StepName(ref.ix);
                                    }
                                    if (const auto place = backend->Prepare(attempt.name); place.ok()) {
                                      outbox->AdoptWhole(name, backend.get(), *place, &attempt);
                                    }
                                    backend->Adopt({std::move(attempt)});
                                  }
                                });
  }
  void Pending(absl::string_view key, Reason reason, std::string message) override {
    const auto known = Find(key);
    if (!known || known->hook) return;
    Put(known->ref.run, AttemptHeldUp{known->ref, reason, std::move(message)}, true);
  }
  void Started(absl::string_view key, std::string external_id, std::string node, int64_t wall_micros) override {
    const auto known = Find(key);
    if (!known) return;
    if (known->hook) {
      return outbox_->PutHook(known->ref.run,
                              {HookReported::What::kStarted, std::string(key), wall_micros, AttemptEnd()});
    }
    Put(known->ref.run, AttemptStarted{known->ref, std::move(external_id), std::move(node), wall_micros}, true);
  }
  void Ended(absl::string_view key, AttemptEnd end) override {
    const auto known = Find(key);
    if (!known) return Release(key);
    if (known->hook) {
      return outbox_->PutHook(known->ref.run, {HookReported::What::kEnded, std::string(key), 0, std::move(end)});
    }
    if (known->delivers && Aside(key, *known, end, AttemptEnded{known->ref, end})) return;
    if (known->delivers) (void)outbox_->workshop_->Judge(std::string(key), /*last=*/true, &end);
    if (!end.output_dir.empty()) outbox_->SetOutputDir(key, end.output_dir);
    Put(known->ref.run, AttemptEnded{known->ref, std::move(end)}, true);
  }
  void NotFound(absl::string_view key) override {
    const auto known = Find(key);
    if (!known) return;
    if (known->delivers && Aside(key, *known, AttemptEnd(), AttemptNotFound{known->ref})) return;
    if (known->delivers && Delivered(key, *known, AttemptEnd())) return;
    if (known->hook) {
      return outbox_->PutHook(known->ref.run, {HookReported::What::kNotFound, std::string(key), 0, AttemptEnd()});
    }
    Put(known->ref.run, AttemptNotFound{known->ref}, false);
  }
  void Lost(absl::string_view key, std::string message) override {
    const auto known = Find(key);
    if (!known && ORCH_PLANTED("keep_lost_stranger")) return;
    if (!known) return Release(key);
    AttemptEnd end;
    end.reason = Reason::kLost;
    end.message = std::move(message);
    if (known->hook) {
      return outbox_->PutHook(known->ref.run, {HookReported::What::kEnded, std::string(key), 0, std::move(end)});
    }
    if (known->delivers && Aside(key, *known, end, AttemptEnded{known->ref, end})) return;
    if (known->delivers && Delivered(key, *known, end)) return;
    Put(known->ref.run, AttemptEnded{known->ref, std::move(end)}, false);
  }
  void HealthChanged(bool healthy, std::string message) override {
    Log(healthy ? LogLevel::kInfo : LogLevel::kWarning, healthy ? "orchestrator is back" : "orchestrator is away",
        {{"orchestrator", orchestrator_}, {"why", message}});
    Put(kOwnLane, OrchestratorHealthChanged{orchestrator_, healthy, std::move(message)}, true);
  }

 private:
  std::optional<Known> Find(absl::string_view key) { return outbox_->FindKnown(key); }
  // A launcher that began and did not tell may have left its word where the daemon has to look for it, which is not
  // done on a platform's thread. `otherwise`: what is told if it did not. False: it is judged at once.
  bool Aside(absl::string_view key, const Known& known, const AttemptEnd& end, const Event& otherwise) {
    const std::string k(key);
    if (outbox_->judgements_.IsAt(k)) return true;  // its platform says it again
    if (!outbox_->workshop_->MayBeLeft(k)) return false;
    outbox_->judgements_.Begin(k, end, [outbox = outbox_, k, ref = known.ref, otherwise](bool told, AttemptEnd judged) {
      if (!told && outbox->abandoned_) return;
      Post post;
      post.lane = ref.run;
      const bool not_found = std::holds_alternative<AttemptNotFound>(otherwise);
      if (told || !not_found) {
        if (!judged.output_dir.empty()) outbox->SetOutputDir(k, judged.output_dir);
        post.event = AttemptEnded{ref, std::move(judged)};
      } else {
        post.event = otherwise;
      }
      outbox->mailbox_->Put(std::move(post));
    });
    return true;
  }
  // The platform does not know how it ended, but its launcher told.
  bool Delivered(absl::string_view key, const Known& known, AttemptEnd end) {
    if (outbox_->workshop_->Judge(std::string(key), /*last=*/true, &end) != Workshop::Judged::kTold) return false;
    outbox_->SetOutputDir(key, end.output_dir);
    Put(known.ref.run, AttemptEnded{known.ref, std::move(end)}, true);
    return true;
  }
  // Its end is committed already, and the word of it did not reach the platform.
  void Release(absl::string_view key) {
    outbox_->executor_->InOrder(kOwnLane, [outbox = outbox_, name = orchestrator_, k = std::string(key)] {
      if (const auto backend = outbox->FindBackend(name)) backend->Release(k);
    });
  }
  void Put(int64_t lane, Event event, bool lazy) {
    Post post;
    post.lane = lane;
    post.event = std::move(event);
    post.lazy = lazy;
    outbox_->mailbox_->Put(std::move(post));
  }

  Outbox* const outbox_;
  const std::string orchestrator_;
};

Outbox::Outbox(Workshop* workshop, Executor* executor, Mailbox* mailbox)
    : workshop_(workshop), executor_(executor), mailbox_(mailbox), judgements_(workshop, executor) {}

Outbox::~Outbox() { Stop(); }

void Outbox::Stop() {
  executor_->Stop();
  std::map<std::string, Service> backends;
  {
    MutexLock lock(&mutex_);
    backends.swap(backends_);
  }
  for (auto& [name, service] : backends) service.backend->Stop();
}

void Outbox::AddRun(std::shared_ptr<const RunContext> run) {
  MutexLock lock(&mutex_);
  runs_[run->header.key] = std::move(run);
}

void Outbox::ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) {
  MutexLock lock(&mutex_);
  const auto found = runs_.find(run);
  if (found == runs_.end()) return;
  auto changed = std::make_shared<RunContext>(*found->second);  // effects under way keep the one they began with
  changed->graph = std::move(graph);
  found->second = std::move(changed);
}

void Outbox::RemoveRun(RunKey run) {
  std::string id;
  std::vector<std::pair<std::string, std::shared_ptr<Backend>>> whole;
  {
    MutexLock lock(&mutex_);
    const auto found = runs_.find(run);
    if (found == runs_.end()) return;
    id = found->second->header.id;
    runs_.erase(found);
    for (const auto& [name, service] : backends_) {
      if (!service.backend->takes_runs()) continue;
      BeginCall(name);
      whole.emplace_back(name, service.backend);
    }
  }
  for (auto& [name, backend] : whole) {
    executor_->InOrder(run, [this, n = name, b = std::move(backend), id] {
      b->ReleaseRun(id);
      EndCall(n);
    });
  }
}

std::shared_ptr<const RunContext> Outbox::FindRun(RunKey run) {
  MutexLock lock(&mutex_);
  const auto found = runs_.find(run);
  return found == runs_.end() ? nullptr : found->second;
}

absl::Status Outbox::AddBackend(const std::string& name, std::unique_ptr<Backend> backend) {
  auto reports = std::make_shared<Reports>(this, name);
  RemoveBackend(name);  // first: two of one name would share their place on the platform
  RETURN_IF_ERROR(backend->Start(reports.get()));
  MutexLock lock(&mutex_);
  backends_[name] = {std::move(reports), std::shared_ptr<Backend>(std::move(backend))};
  return absl::OkStatus();
}

void Outbox::RemoveBackend(const std::string& name) {
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

void Outbox::BeginCall(const std::string& name) { ++calls_[name]; }

void Outbox::EndCall(const std::string& name) {
  MutexLock lock(&mutex_);
  if (--calls_[name] == 0) calls_.erase(name);
  idle_changed_.NotifyAll();
}

bool Outbox::IsIdle(const std::string& name) {
  if (backends_.count(name) == 0) return true;
  if (calls_.count(name) > 0) return false;
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.orchestrator == name) return false;
  }
  return true;
}

bool Outbox::CloseWhenIdle(const std::string& name, std::string why, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  MutexLock lock(&mutex_);
  while (!IsIdle(name)) {
    const auto left = until - std::chrono::steady_clock::now();
    if (left <= std::chrono::milliseconds(0)) return false;
    idle_changed_.WaitFor(&mutex_, std::chrono::duration_cast<std::chrono::microseconds>(left));
  }
  closed_[name] = std::move(why);  // an attempt of later finds it so
  return true;
}

void Outbox::Open(const std::string& name) {
  MutexLock lock(&mutex_);
  closed_.erase(name);
}

std::shared_ptr<Backend> Outbox::FindBackend(const std::string& name) {
  MutexLock lock(&mutex_);
  const auto found = backends_.find(name);
  return found == backends_.end() ? nullptr : found->second.backend;
}

std::vector<std::shared_ptr<Backend>> Outbox::Backends() {
  MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Backend>> out;
  for (const auto& [name, service] : backends_) out.push_back(service.backend);
  return out;
}

KnownAttempt Outbox::Any() {
  MutexLock lock(&mutex_);
  return any_;
}

void Outbox::Adopt(const std::vector<std::pair<AttemptRow, std::string>>& live, int64_t grace_micros,
                   int64_t log_limit_bytes) {
  std::map<std::string, std::vector<KnownAttempt>> by_orchestrator;
  {
    MutexLock lock(&mutex_);
    any_.grace_micros = grace_micros;
    any_.log_limit_bytes = log_limit_bytes;
    for (const auto& [name, service] : backends_) by_orchestrator[name];
    for (const auto& [row, step] : live) {
      attempts_[row.key] = {{row.run, row.ix, row.number}, row.orchestrator, ""};
      KnownAttempt known = any_;
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
      by_orchestrator[row.orchestrator].push_back(std::move(known));
    }
  }
  for (auto& [name, attempts] : by_orchestrator) {
    if (FindBackend(name) != nullptr) {
      AdoptOn(name, std::move(attempts));
      continue;
    }
    MutexLock lock(&mutex_);
    unasked_[name] = std::move(attempts);
  }
}

void Outbox::AdoptLate(const std::string& name) {
  std::vector<KnownAttempt> attempts;
  {
    MutexLock lock(&mutex_);
    const auto found = unasked_.find(name);
    if (found != unasked_.end()) {
      for (KnownAttempt& known : found->second) {
        if (attempts_.count(known.name.key) > 0) attempts.push_back(std::move(known));  // it has not ended meanwhile
      }
      found->second = attempts;  // should another backend take this one's place again
    }
  }
  AdoptOn(name, std::move(attempts));
}

void Outbox::AdoptOn(const std::string& name, std::vector<KnownAttempt> attempts) {
  const auto backend = FindBackend(name);
  if (backend == nullptr) return;
  if (backend->takes_runs()) {
    std::vector<std::string> run_ids;
    {
      MutexLock lock(&mutex_);
      for (const auto& [key, run] : runs_) run_ids.push_back(run->header.id);
    }
    backend->KeepRuns(std::move(run_ids));
  }
  const auto prepare = [&] {
    for (KnownAttempt& known : attempts) {
      const auto workspace = backend->Prepare(known.name);
      if (!workspace.ok()) continue;
      SetWorkspace(known.name.key, *workspace);
      AdoptWhole(name, backend.get(), *workspace, &known);
    }
  };
  // How an end is judged has to be known before it is told; a place on this machine is known once it was adopted.
  if (!backend->shares_files()) prepare();
  backend->Adopt(attempts);
  if (backend->shares_files()) prepare();  // a step that was adopted may publish what is in its folder
  // A launcher of a whole run may have told just before the daemon ended.
  for (const KnownAttempt& known : attempts) {
    if (known.outline && workshop_->HasEnd(known.name.key)) LauncherEnded(known.name.key);
  }
}

std::optional<Outbox::Known> Outbox::FindKnown(absl::string_view key) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return std::nullopt;
  return Known{found->second.ref, found->second.hook, found->second.delivers};
}

absl::StatusOr<std::shared_ptr<Backend>> Outbox::HookBackend() {
  MutexLock making(&hook_backend_mutex_);
  if (auto backend = FindBackend(kHookOrchestrator)) return backend;
  if (!make_hook_backend_) return absl::UnimplementedError("there is nothing to run hooks with");
  ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_hook_backend_());
  RETURN_IF_ERROR(AddBackend(kHookOrchestrator, std::move(backend)));
  return FindBackend(kHookOrchestrator);
}

absl::Status Outbox::AdoptHooks(const std::vector<HookRow>& running, int64_t grace_micros, int64_t log_limit_bytes) {
  std::vector<KnownAttempt> known;
  for (const HookRow& row : running) {
    MutexLock lock(&mutex_);
    attempts_[row.key] = {{row.run, 0, 0}, kHookOrchestrator, "", true};
    KnownAttempt& attempt = known.emplace_back();
    attempt.name.key = row.key;
    attempt.grace_micros = grace_micros;
    attempt.log_limit_bytes = log_limit_bytes;
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Backend> backend, HookBackend());
  backend->Adopt(std::move(known));
  adopted_hooks_ = true;
  return absl::OkStatus();
}

void Outbox::PutHook(RunKey run, HookReported event) {
  Post post;
  post.lane = run;
  post.lazy = true;
  post.event = std::move(event);
  mailbox_->Put(std::move(post));
}

void Outbox::Probe(const std::string& orchestrator) {
  OrchestratorProbed event{orchestrator, false, "it is not in service"};
  if (const auto backend = FindBackend(orchestrator)) {
    const ProbeReport report = backend->Probe();
    const ProbeReport::Check* bad = report.FirstBad();
    event.well = bad == nullptr;
    event.why = bad == nullptr ? "" : bad->text;
  }
  Log(event.well ? LogLevel::kInfo : LogLevel::kWarning,
      event.well ? "orchestrator says that it is well" : "orchestrator is not well",
      {{"orchestrator", orchestrator}, {"why", event.why}});
  Post post;
  post.lane = kOwnLane;
  post.event = std::move(event);
  mailbox_->Put(std::move(post));
}

void Outbox::RunHook(const Intent& intent) {
  ORCH_FAULT("hook.before");
  const auto refuse = [&](Reason reason, absl::string_view message) {
    HookReported report{HookReported::What::kRefused, intent.key, 0, {}};
    report.end.reason = reason;
    report.end.message = std::string(message);
    PutHook(intent.ref.run, std::move(report));
  };
  const auto backend = HookBackend();
  if (!backend.ok()) return refuse(Reason::kSubmitRefused, backend.status().message());
  if (!std::exchange(adopted_hooks_, true)) (*backend)->Adopt({});
  Rendered rendered = workshop_->RenderHook(*intent.hook, backend->get());
  if (rendered.failure != Reason::kNone) return refuse(rendered.failure, rendered.message);
  (*backend)->Submit(std::move(rendered.unit));
  ORCH_FAULT("hook.submitted");
}

std::optional<Outbox::Attempt> Outbox::FindAttempt(absl::string_view key) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found == attempts_.end() || found->second.hook) return std::nullopt;
  return found->second;
}

void Outbox::SetOutputDir(absl::string_view key, const std::string& dir) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found != attempts_.end()) found->second.output_dir = dir;
}

void Outbox::SetWorkspace(const std::string& key, const Workspace& workspace) {
  const std::string dir = workshop_->OutputDirOf(key, workspace);
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return;
  found->second.output_dir = dir;
  found->second.delivers = !workspace.on_this_machine;
}

bool Outbox::MayDoHere(const Intent& intent) {
  if (intent.kind == Intent::Kind::kCancelAttempt || intent.kind == Intent::Kind::kReleaseAttempt) return true;
  if (intent.kind == Intent::Kind::kSubmitAttempt) {  // a task for a launcher is synced
    const auto backend = FindBackend(intent.orchestrator);
    if (backend != nullptr && !backend->shares_files()) return false;
  }
  const auto run = FindRun(intent.ref.run);
  return run != nullptr && workshop_->IsQuick(*run, intent);
}

void Outbox::Start(std::vector<Intent> intents) {
  // A link of a chain: another thread would only add the time that its waking takes.
  const bool few = intents.size() <= kFewIntents && mailbox_->depth() == 0;
  // What starts comes before what is cleaned up.
  std::stable_partition(intents.begin(), intents.end(),
                        [](const Intent& i) { return i.kind == Intent::Kind::kSubmitAttempt; });
  std::vector<Intent> asked;  // of one run, for one look into the cache
  const auto ask = [&] {
    const RunKey run = asked.front().ref.run;  // before it is moved
    executor_->Aside(run, [this, some = std::exchange(asked, {})] { Resolve(some); });
  };
  for (Intent& intent : intents) {
    if (intent.kind == Intent::Kind::kSubmitAttempt) {
      MutexLock lock(&mutex_);
      attempts_.try_emplace(intent.key, Attempt{intent.ref, intent.orchestrator, ""});
    }
    const RunKey run = intent.ref.run;
    const bool here = few && MayDoHere(intent);
    switch (intent.kind) {
      case Intent::Kind::kStoreOutputs:
        if (here) {
          Store(intent);
          break;
        }
        executor_->Aside(run, [this, i = std::move(intent)] { Store(i); });
        break;
      case Intent::Kind::kResolveStep:
        if (!asked.empty() && (asked.size() == kAskedTogether || asked.front().ref.run != run ||
                               asked.front().generation != intent.generation)) {
          ask();
        }
        asked.push_back(std::move(intent));
        break;
      case Intent::Kind::kProbeOrchestrator:
        executor_->Aside(kOwnLane, [this, name = std::move(intent.orchestrator)] { Probe(name); });
        break;
      case Intent::Kind::kResolveFanout:
        executor_->Aside(run, [this, i = std::move(intent)] { ResolveFanout(i); });
        break;
      case Intent::Kind::kRunHook: {
        {
          MutexLock lock(&mutex_);
          attempts_.try_emplace(intent.key, Attempt{intent.ref, kHookOrchestrator, "", true});
        }
        executor_->InOrder(run, [this, i = std::move(intent)] { RunHook(i); });
        break;
      }
      case Intent::Kind::kSubmitAttempt:
      case Intent::Kind::kCancelAttempt:
      case Intent::Kind::kReleaseAttempt:
        if (here && executor_->Here([&] { Perform(std::move(intent)); })) break;
        executor_->InOrder(run, [this, i = std::move(intent)]() mutable {
          // A platform that answers faster than the loop takes it would fill the memory with its reports.
          if (i.kind == Intent::Kind::kSubmitAttempt) mailbox_->WaitForRoom(kReportsAhead);
          Perform(std::move(i));
        });
        break;
    }
  }
  if (!asked.empty()) ask();
}

void Outbox::Perform(Intent intent) {
  ORCH_FAULT("outbox.next");
  if (intent.kind == Intent::Kind::kSubmitAttempt) {
    Submit(intent);
    ORCH_FAULT("outbox.submitted");
    return;
  }
  const auto backend = FindBackend(intent.orchestrator);
  if (intent.kind == Intent::Kind::kCancelAttempt) {
    if (ORCH_PLANTED("drop_cancel")) return;
    judgements_.Hurry(intent.key);
    const auto attempt = FindAttempt(intent.key);
    if (attempt.has_value() && attempt->whole) {
      StopWhole(intent);
      return;
    }
    if (backend != nullptr) backend->Cancel(intent.key, intent.forced ? CancelMode::kForced : CancelMode::kGraceful);
    ORCH_FAULT("outbox.cancelled");
    return;
  }
  ORCH_FAULT("outbox.before_release");
  {
    MutexLock lock(&mutex_);
    attempts_.erase(intent.key);
    BeginCall(intent.orchestrator);
  }
  judgements_.Forget(intent.key);
  workshop_->Discard(intent.key);
  if (backend != nullptr) backend->Release(intent.key);
  EndCall(intent.orchestrator);
  ORCH_FAULT("outbox.released");
}

void Outbox::Refuse(const AttemptRef& ref, Reason reason, absl::string_view message, bool again) {
  Post post;
  post.lane = ref.run;
  post.event = AttemptRefused{ref, again, reason, std::string(message), /*ours=*/true};
  mailbox_->Put(std::move(post));
}

void Outbox::Submit(const Intent& intent) {
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr) return;  // it has ended meanwhile
  std::shared_ptr<Backend> backend;
  std::string why = "is not in service";
  {
    MutexLock lock(&mutex_);
    const auto closed = closed_.find(intent.orchestrator);
    const auto service = backends_.find(intent.orchestrator);
    if (closed != closed_.end()) {
      why = closed->second;
    } else if (service != backends_.end()) {
      backend = service->second.backend;
    }
  }
  if (backend == nullptr) {  // it is no fault of the step, and may be over soon: nothing is removed that a run needs
    return Refuse(intent.ref, Reason::kSubmitRefused, absl::StrCat("orchestrator `", intent.orchestrator, "` ", why),
                  /*again=*/true);
  }
  const std::string flavor = FlavorOf(intent.orchestrator);
  Rendered rendered = workshop_->Render(*run, intent, flavor, backend.get());
  if (rendered.failure != Reason::kNone) {
    if (abandoned_) return;
    Refuse(intent.ref, rendered.failure, rendered.message, rendered.again);
    return;
  }
  for (const AttemptWork& work : rendered.unit.attempts) {
    SetWorkspace(work.name.key, work.workspace);
    if (!backend->takes_runs()) continue;
    rendered.unit.outline = workshop_->WholeRunOf(run, flavor, backend.get(), work.workspace);
    if (rendered.unit.outline) SetWhole(work.name.key);
  }
  ORCH_FAULT("outbox.prepared");
  backend->Submit(std::move(rendered.unit));
}

void Outbox::Store(const Intent& intent) {
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr) return;
  Post post;
  post.lane = intent.ref.run;
  ORCH_FAULT("store.before");
  OutputsStored event = workshop_->Store(*run, intent);
  if (abandoned_ && event.failure != Reason::kNone) return;
  post.event = std::move(event);
  ORCH_FAULT("store.after");
  mailbox_->Put(std::move(post));
}

// What cannot be found out now is no fault of the step, which waits for it.
void Outbox::AskAgain(RunKey run, int asked, const std::string& why, std::function<void()> ask) {
  if (asked == 0) {
    Log(LogLevel::kWarning, "what a step needs cannot be found out now; it is tried again",
        {{"run", run}, {"why", why}});
  }
  const auto pause = std::min(kAskAgainFirst * (1 << std::min(asked, 10)), kAskAgainMax);
  executor_->Slowly(pause, [this, run, work = std::move(ask)] { executor_->Aside(run, work); });
}

void Outbox::Resolve(const std::vector<Intent>& intents, int asked) {
  const RunKey run = intents.front().ref.run;
  const auto context = FindRun(run);
  if (context == nullptr || context->generation != intents.front().generation) return;  // nobody waits for it
  StepsResolved event = workshop_->Resolve(*context, intents);
  if (abandoned_) return;
  std::vector<Intent> again;
  std::string why;
  std::vector<StepResolved> known;
  known.reserve(event.steps.size());
  for (size_t i = 0; i < event.steps.size(); ++i) {
    StepResolved& step = event.steps[i];
    if (step.again) {
      why = std::move(step.message);
      again.push_back(intents[i]);
    } else {
      known.push_back(std::move(step));
    }
  }
  if (!again.empty()) {
    AskAgain(run, asked, why, [this, some = std::move(again), n = asked + 1] { Resolve(some, n); });
    if (known.empty()) return;
  }
  event.steps = std::move(known);
  Post post;
  post.lane = run;
  post.event = std::move(event);
  ORCH_FAULT("resolve.after");
  mailbox_->Put(std::move(post));
}

void Outbox::ResolveFanout(const Intent& intent, int asked) {
  const auto run = FindRun(intent.ref.run);
  if (run == nullptr || run->generation != intent.generation) return;
  FanoutResolved event = workshop_->ResolveFanout(*run, intent);
  if (abandoned_) return;
  if (event.again) {
    return AskAgain(intent.ref.run, asked, event.message, [this, i = intent, n = asked + 1] { ResolveFanout(i, n); });
  }
  Post post;
  post.lane = intent.ref.run;
  post.event = std::move(event);
  ORCH_FAULT("fanout.after");
  mailbox_->Put(std::move(post));
}

bool Outbox::HasAttempts(const std::string& orchestrator) {
  MutexLock lock(&mutex_);
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.orchestrator == orchestrator) return true;
  }
  return false;
}

void Outbox::SetFlavor(const std::string& orchestrator, const std::string& flavor) {
  MutexLock lock(&mutex_);
  flavors_[orchestrator] = flavor;
}

std::string Outbox::FlavorOf(const std::string& orchestrator) {
  MutexLock lock(&mutex_);
  const auto found = flavors_.find(orchestrator);
  return found == flavors_.end() ? "" : found->second;
}

}  // namespace orch
