#include "backends/fake/fake_backend.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <queue>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backends/fake/journal.h"
#include "backends/fake/script.h"
#include "server/base/clock.h"
#include "server/base/json.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch {
namespace {

using fake::Config;
using fake::Outcome;
using fake::Refusal;
using fake::Script;

constexpr size_t kScriptsKept = 1000;
constexpr int64_t kGateEvery = 10'000;  // micros between two looks at a gate

bool IsShut(const Script& script) { return !script.gate.empty() && access(script.gate.c_str(), F_OK) != 0; }
// Its end is not that of its submission.
bool Lasts(const Script& script) { return script.duration_micros > 0 || !script.gate.empty(); }

class EmptyLog : public LogReader {
 public:
  absl::StatusOr<std::string> Read(int64_t, int64_t) override { return std::string(); }
  absl::StatusOr<int64_t> Size() override { return 0; }
  int64_t TimeOf(int64_t) override { return 0; }
};

enum class Phase : uint8_t { kNew, kQueued, kRunning, kEnded };

struct Job {
  std::shared_ptr<const Script> script;
  Phase phase = Phase::kNew;
  bool muted = false;  // nobody has been told of it: its answer was lost, or the daemon is new
  bool lost = false;
  int refusals = 0;
  uint32_t attempt = 0;
  uint64_t timer = 0;  // the one that counts; older ones are void
  std::string step;
  std::vector<std::string> outputs;
  std::string output_dir;
  std::string scratch_dir;
  int64_t submitted_wall = 0;
  int64_t started_wall = 0;
  std::shared_ptr<const AttemptEnd> end;
};

// What was decided under the lock, to be told without it.
struct Report {
  std::string key;
  bool accepted = false;
  int64_t started_wall = 0;
  bool lost = false;
  std::shared_ptr<const AttemptEnd> end;
};

class FakeBackend : public Backend {
 public:
  FakeBackend(Config config, std::string folder)
      : config_(std::move(config)),
        folder_(std::move(folder)),
        defaults_(std::make_shared<const Script>(config_.defaults)) {}
  ~FakeBackend() override { Stop(); }

  absl::Status Start(Listener* listener) override {
    listener_ = listener;
    if (!config_.survive) return absl::OkStatus();
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    std::map<std::string, fake::StoredJob> stored;
    MutexLock lock(&mutex_);
    RETURN_IF_ERROR(journal_.Open(folder_ + "/journal", &stored));
    for (auto& [key, job] : stored) Remember(key, job);
    return absl::OkStatus();
  }

  void Stop() override {
    {
      MutexLock lock(&mutex_);
      stopped_ = true;
      due_changed_.NotifyAll();
    }
    if (timer_thread_.joinable()) timer_thread_.join();
  }

  Capacity capacity() const override { return config_.capacity; }
  bool accept_is_start() const override { return config_.defaults.start_delay_micros == 0; }

  std::vector<std::string> Check(const Resources& resources, absl::string_view settings_json) const override {
    std::vector<std::string> faults;
    fake::ParseScript(settings_json, config_.defaults, &faults);
    const auto offer = [&](absl::string_view what, int64_t asked, const std::optional<int64_t>& offered) {
      if (offered && asked > *offered) {
        faults.push_back(absl::StrCat("resources.", what, ": ", asked, " asked, the orchestrator offers ", *offered));
      }
    };
    offer("cpu", resources.cpu_millis, config_.capacity.cpu_millis);
    offer("memory", resources.memory, config_.capacity.memory);
    offer("gpu", resources.gpu, config_.capacity.gpu);
    return faults;
  }

  std::vector<Violation> CheckStep(const StepNeeds& needs) const override {
    if (needs.resources.disk == 0) return {};
    return {{"resources.disk", "the fake platform has no disk", "UNSUPPORTED"}};
  }

  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    Workspace workspace;
    workspace.scratch_dir = absl::StrCat(folder_, "/", name.key, "/scratch");
    workspace.output_dir = absl::StrCat(folder_, "/", name.key, "/out");
    workspace.on_this_machine = true;
    return workspace;
  }

  void Submit(Unit unit) override {
    for (AttemptWork& work : unit.attempts) SubmitOne(work);
  }

  void Cancel(absl::string_view key, CancelMode mode) override {
    Report report{std::string(key)};
    MutexLock telling(&telling_);
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(report.key);
      if (found == jobs_.end()) return;
      Job& job = found->second;
      if (job.phase == Phase::kNew || job.phase == Phase::kEnded) return;
      if (mode == CancelMode::kGraceful && job.script->ignore_cancel) return;
      const int64_t wall = Clock::Real().Now().wall;
      if (config_.survive) journal_.Cancelled(key, wall);
      End(job, Stopped(job, mode), wall);
      if (job.muted) return;
      report.end = job.end;
    }
    Tell(report);
  }

  void Release(absl::string_view key) override {
    bool has_files = false;
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(std::string(key));
      if (found == jobs_.end()) return;
      has_files = !found->second.outputs.empty();
      jobs_.erase(found);
      if (config_.survive) journal_.Released(key);
    }
    if (!has_files) return;
    std::error_code error;  // nothing there is as good
    std::filesystem::remove_all(absl::StrCat(folder_, "/", key), error);
  }

  void Adopt(std::vector<KnownAttempt> attempts) override {
    std::vector<Report> reports;
    std::vector<std::string> absent;
    MutexLock telling(&telling_);
    {
      MutexLock lock(&mutex_);
      for (const KnownAttempt& attempt : attempts) {
        const auto found = jobs_.find(attempt.name.key);
        if (found == jobs_.end() || found->second.phase == Phase::kNew) {
          absent.push_back(attempt.name.key);
        } else {
          reports.push_back(Unmute(found->first, found->second));
        }
      }
      // Those that the daemon has forgotten ended before it did: told so that it lets them go.
      for (std::string& key : std::exchange(remembered_, {})) {
        const auto found = jobs_.find(key);
        if (found != jobs_.end() && found->second.muted) reports.push_back(Unmute(found->first, found->second));
      }
    }
    for (const Report& report : reports) Tell(report);
    for (const std::string& key : absent) listener_->NotFound(key);
  }

  ProbeReport Probe() override {
    const std::optional<std::string> down = Down();
    return {{{"platform", !down.has_value(), down.value_or("it is up"),
              down.has_value() ? absl::StrCat("remove ", config_.down) : ""}}};
  }

  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return std::unique_ptr<LogReader>(std::make_unique<EmptyLog>());
  }

 private:
  struct Timer {
    int64_t due;  // on the monotonic clock
    uint64_t number;
    std::string key;
    bool operator>(const Timer& o) const { return std::tie(due, number) > std::tie(o.due, o.number); }
  };

  void SubmitOne(const AttemptWork& work) {
    if (TrySubmit(work)) GoOn(work.name.key);
  }

  // True if it is there now, and its start has been told.
  bool TrySubmit(const AttemptWork& work) {
    const std::string& key = work.name.key;
    const Now now = Clock::Real().Now();
    Report report{key};
    Refusal refused = Refusal::kNone;
    std::string why = "refused as its settings say";
    bool unknown = false;
    bool goes_on = false;
    if (const std::optional<std::string> down = Down()) {
      MutexLock lock(&mutex_);
      const auto known = jobs_.find(key);
      if (known == jobs_.end() || known->second.phase == Phase::kNew) refused = Refusal::kTransient;
      why = *down;
    }
    MutexLock telling(&telling_);
    if (refused == Refusal::kNone) {
      MutexLock lock(&mutex_);
      Job& job = jobs_[key];
      if (job.script == nullptr) job.script = ScriptOf(work.settings_json);
      if (job.phase != Phase::kNew) {
        report = Unmute(key, job);
      } else if (job.refusals < job.script->refuse_attempts && job.script->refuse != Refusal::kNone) {
        ++job.refusals;
        refused = job.script->refuse;
      } else {
        Begin(job, work, now);
        job.muted = unknown = job.script->unknown;
        report.accepted = job.phase == Phase::kQueued;
        report.started_wall = job.started_wall;
        // The fast way: no thread, no file, all of its life in one call.
        if (job.phase == Phase::kRunning && !Lasts(*job.script) && job.outputs.empty()) {
          End(job, EndOf(job), now.wall);
          report.end = job.end;
          report.lost = job.lost;
        }
        goes_on = job.phase != Phase::kEnded;
      }
    }
    if (refused != Refusal::kNone) {
      listener_->Refused(key, refused == Refusal::kTransient, Reason::kSubmitRefused, std::move(why));
    } else if (unknown) {
      listener_->Unknown(key, "the answer was lost as its settings say");
    } else {
      Tell(report);
    }
    return goes_on;
  }

  // What the file says while the platform is down.
  std::optional<std::string> Down() const {
    if (config_.down.empty()) return std::nullopt;
    std::ifstream in(config_.down);
    if (!in) return std::nullopt;
    std::string text(200, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
    absl::StripAsciiWhitespace(&text);
    return text.empty() ? "it is down" : text;
  }

  // A job of this platform from here on.
  void Begin(Job& job, const AttemptWork& work, Now now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    job.attempt = work.name.attempt;
    job.submitted_wall = now.wall;
    for (const auto& [name, value] : work.env) {
      if (absl::StartsWith(name, "ORCH_OUTPUT_")) job.outputs.push_back(value);
    }
    if (!job.outputs.empty()) {
      job.step = work.name.step;
      job.output_dir = work.workspace.output_dir;
      job.scratch_dir = work.workspace.scratch_dir;
    }
    if (config_.survive) {
      journal_.Submitted({work.name.key, work.name.step, work.name.attempt, work.settings_json, job.outputs,
                          job.output_dir, job.scratch_dir, now.wall, 0});
    }
    job.phase = Phase::kQueued;
    if (job.script->start_delay_micros == 0) {
      job.phase = Phase::kRunning;
      job.started_wall = now.wall;
    }
  }

  // From the journal: it went on while no daemon looked.
  void Remember(const std::string& key, const fake::StoredJob& stored) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Job& job = jobs_[key];
    job.script = ScriptOf(stored.settings_json);
    job.muted = true;
    job.attempt = stored.attempt;
    job.step = stored.step;
    job.outputs = stored.outputs;
    job.output_dir = stored.output_dir;
    job.scratch_dir = stored.scratch_dir;
    job.submitted_wall = stored.submitted;
    const Now now = Clock::Real().Now();
    const int64_t start = stored.submitted + job.script->start_delay_micros;
    const bool started = start <= (stored.cancelled != 0 ? stored.cancelled : now.wall);
    job.phase = started ? Phase::kRunning : Phase::kQueued;
    if (started) job.started_wall = start;
    if (stored.cancelled != 0) {
      End(job, Stopped(job, CancelMode::kGraceful), stored.cancelled);
    } else {
      Schedule(key, job, now);
    }
    remembered_.push_back(key);
  }

  // What comes next of a job: at once if it is due, else by the timer.
  void GoOn(const std::string& key) {
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(key);
      if (found == jobs_.end() || found->second.phase == Phase::kEnded) return;
      Job& job = found->second;
      if (job.phase == Phase::kQueued || Lasts(*job.script)) {
        Schedule(key, job, Clock::Real().Now());
        return;
      }
    }
    Finish(key);
  }

  void Schedule(const std::string& key, Job& job, Now now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int64_t wall = job.phase == Phase::kQueued ? job.submitted_wall + job.script->start_delay_micros
                                                     : job.started_wall + job.script->duration_micros;
    WakeAt(now.mono + wall - now.wall, key, job);
  }

  void WakeAt(int64_t mono, const std::string& key, Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    job.timer = next_timer_++;
    const bool first = timers_.empty() || mono < timers_.top().due;
    timers_.push({mono, job.timer, key});
    if (!timer_thread_.joinable() && !stopped_) timer_thread_ = std::thread([this] { RunTimers(); });
    if (first) due_changed_.NotifyAll();
  }

  void RunTimers() {
    for (;;) {
      std::string key;
      {
        MutexLock lock(&mutex_);
        for (;;) {
          if (stopped_) return;
          if (timers_.empty()) {
            due_changed_.Wait(&mutex_);
            continue;
          }
          const int64_t wait = timers_.top().due - Clock::Real().Now().mono;
          if (wait <= 0) break;
          due_changed_.WaitFor(&mutex_, std::chrono::microseconds(wait));
        }
        const Timer timer = timers_.top();
        timers_.pop();
        const auto found = jobs_.find(timer.key);
        if (found == jobs_.end() || found->second.timer != timer.number) continue;
        key = timer.key;
      }
      Advance(key);
    }
  }

  // Its time has come: it starts or ends.
  void Advance(const std::string& key) {
    const std::optional<bool> started = Start(key);
    if (!started.has_value()) return;
    if (*started) return GoOn(key);
    Finish(key);
  }

  // Nothing: there is nothing to go on with. False: it has started before.
  std::optional<bool> Start(const std::string& key) {
    Report report{key};
    bool starts = false;
    MutexLock telling(&telling_);
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(key);
      if (found == jobs_.end()) return std::nullopt;
      Job& job = found->second;
      starts = job.phase == Phase::kQueued;
      if (starts) {
        job.phase = Phase::kRunning;
        job.started_wall = Clock::Real().Now().wall;
        if (!job.muted) report.started_wall = job.started_wall;
      } else if (job.phase == Phase::kRunning && IsShut(*job.script)) {
        WakeAt(Clock::Real().Now().mono + kGateEvery, key, job);
        return std::nullopt;
      }
    }
    if (starts) Tell(report);
    return starts;
  }

  // Writes what it leaves, then ends it, unless it was stopped meanwhile.
  void Finish(const std::string& key) {
    Job copy;
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(key);
      if (found == jobs_.end() || found->second.phase != Phase::kRunning) return;
      copy = found->second;
    }
    AttemptEnd end = EndOf(copy);
    if (end.reason == Reason::kNone && !WriteOutputs(copy)) {
      end.reason = Reason::kStoreFailed;
      end.message = absl::StrCat("the fake platform cannot write below ", copy.output_dir);
    }
    Report report{key};
    MutexLock telling(&telling_);
    {
      MutexLock lock(&mutex_);
      const auto found = jobs_.find(key);
      if (found == jobs_.end() || found->second.phase != Phase::kRunning) return;
      Job& job = found->second;
      End(job, std::move(end), Clock::Real().Now().wall);
      if (job.muted) return;
      report.end = job.end;
      report.lost = job.lost;
    }
    Tell(report);
  }

  static bool WriteOutputs(const Job& job) {
    if (job.outputs.empty()) return true;
    std::error_code error;
    std::filesystem::create_directories(job.output_dir, error);
    const std::string text = job.script->output.value_or(JsonQuote(job.step));
    for (const std::string& path : job.outputs) {
      std::ofstream out(path, std::ios::binary);
      out << text;
      if (!out.flush()) return false;
    }
    return true;
  }

  static AttemptEnd EndOf(const Job& job) {
    AttemptEnd end;
    switch (job.script->OutcomeOf(job.attempt)) {
      case Outcome::kSuccess:
        end.exit_code = 0;
        break;
      case Outcome::kFail:
        end.reason = Reason::kExitCode;
        end.exit_code = job.script->exit_code;
        break;
      case Outcome::kOutOfMemory:
        end.reason = Reason::kOutOfMemory;
        end.signal = 9;
        break;
      case Outcome::kLost:
        end.reason = Reason::kLost;
        end.message = "lost as its settings say";
        break;
      case Outcome::kUnschedulable:
        end.reason = Reason::kUnschedulable;
        end.never_started = true;
        end.message = "unschedulable as its settings say";
        break;
    }
    return end;
  }

  static AttemptEnd Stopped(const Job& job, CancelMode mode) {
    AttemptEnd end;
    end.reason = Reason::kSignaled;
    end.signal = mode == CancelMode::kForced ? 9 : 15;
    end.stopped = true;
    end.never_started = job.phase == Phase::kQueued;
    return end;
  }

  void End(Job& job, AttemptEnd end, int64_t wall) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    job.phase = Phase::kEnded;
    job.lost = end.reason == Reason::kLost;
    end.started_wall = job.started_wall;
    end.ended_wall = wall;
    if (!job.outputs.empty()) end.output_dir = job.output_dir;
    end.scratch_dir = job.scratch_dir;
    job.end = std::make_shared<const AttemptEnd>(std::move(end));
  }

  // All that there is to say about it now.
  static Report Unmute(const std::string& key, Job& job) {
    job.muted = false;
    return {key, true, job.started_wall, job.lost, job.end};
  }

  void Tell(const Report& report) {
    if (report.accepted) listener_->Accepted(report.key, absl::StrCat("fake/", report.key), report.key, "");
    if (report.started_wall != 0) listener_->Started(report.key, report.key, "fake", report.started_wall);
    if (report.end == nullptr) return;
    if (report.lost) {
      listener_->Lost(report.key, report.end->message);
    } else {
      listener_->Ended(report.key, *report.end);
    }
  }

  std::shared_ptr<const Script> ScriptOf(const std::string& settings) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (settings.empty()) return defaults_;
    const auto found = scripts_.find(settings);
    if (found != scripts_.end()) return found->second;
    std::vector<std::string> faults;  // Check has refused them at submit
    auto script = std::make_shared<const Script>(fake::ParseScript(settings, config_.defaults, &faults));
    if (scripts_.size() >= kScriptsKept) scripts_.clear();
    scripts_.emplace(settings, script);
    return script;
  }

  const Config config_;
  const std::string folder_;
  const std::shared_ptr<const Script> defaults_;
  Listener* listener_ = nullptr;
  std::thread timer_thread_;  // made under the lock, joined by Stop

  // Held from a change of a job until it is told, so that what is told of it is in order. Before `mutex_`.
  Mutex telling_ ABSL_ACQUIRED_BEFORE(mutex_);
  Mutex mutex_;
  CondVar due_changed_;
  std::unordered_map<std::string, Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> remembered_ ABSL_GUARDED_BY(mutex_);  // from the journal, until the first Adopt
  std::map<std::string, std::shared_ptr<const Script>> scripts_ ABSL_GUARDED_BY(mutex_);
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_ ABSL_GUARDED_BY(mutex_);
  fake::Journal journal_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_timer_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status ConfigInvalid(const std::vector<std::string>& faults) {
  std::vector<Violation> violations;
  for (const std::string& fault : faults) {
    const size_t colon = fault.find(": ");
    violations.push_back({fault.substr(0, colon), fault.substr(colon + 2), "CONFIG_INVALID"});
  }
  return InvalidInput("CONFIG_INVALID", absl::StrJoin(faults, "; "), violations);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeFakeBackend(const BackendContext& context) {
  std::vector<std::string> faults;
  Config config = fake::ParseConfig(context.config_json, &faults);
  if (!faults.empty()) return ConfigInvalid(faults);
  return std::unique_ptr<Backend>(
      std::make_unique<FakeBackend>(std::move(config), absl::StrCat(context.data_dir, "/fake/", context.orchestrator)));
}

FlavorInfo FakeFlavor() {
  FlavorInfo flavor;
  flavor.name = "fake";
  flavor.description = "does what each step's settings say, runs nothing; for tests and benchmarks";
  flavor.units = {"step"};
  flavor.needs = "to be enabled by the daemon's configuration";
  flavor.native = {"cancel", "adoption"};
  flavor.supplied = {"retries", "time-outs", "caching", "early edges"};
  flavor.config_schema = fake::ConfigSchema();
  flavor.settings_schema = fake::SettingsSchema();
  flavor.listed = false;
  flavor.make = MakeFakeBackend;
  return flavor;
}

}  // namespace orch
