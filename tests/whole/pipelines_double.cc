#include "tests/whole/pipelines_double.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"

namespace orch {
namespace {
constexpr int kLookMillis = 10;
}  // namespace

PipelinesDouble::PipelinesDouble(std::string dir, std::string launcher, std::string endpoint)
    : dir_(std::move(dir)), launcher_(std::move(launcher)), endpoint_(std::move(endpoint)) {
  thread_ = std::thread([this] { Run(); });
}

PipelinesDouble::~PipelinesDouble() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    for (const auto& [pid, process] : processes_) kill(pid, SIGKILL);
  }
  thread_.join();
}

void PipelinesDouble::SetHeard(Heard heard) {
  MutexLock lock(&mutex_);
  heard_ = std::move(heard);
}

void PipelinesDouble::Create(const std::string& name, RunOutline outline) {
  MutexLock lock(&mutex_);
  NativeRun run;
  run.name = name;
  run.tasks.resize(outline.tasks.size());
  run.outline = std::move(outline);
  runs_.emplace(name, std::move(run));  // the first of a name stays
  StartWhatMay();
}

std::vector<PipelinesDouble::NativeRun> PipelinesDouble::runs() {
  MutexLock lock(&mutex_);
  std::vector<NativeRun> out;
  for (const auto& [name, run] : runs_) out.push_back(run);
  return out;
}

void PipelinesDouble::Delete(const std::string& name) {
  MutexLock lock(&mutex_);
  for (const auto& [pid, process] : processes_) {
    if (process.first == name) kill(pid, SIGTERM);
  }
  const auto found = runs_.find(name);
  if (found != runs_.end()) found->second.failing = true;
}

void PipelinesDouble::Kill(const std::string& run_id, uint32_t step) {
  MutexLock lock(&mutex_);
  for (const auto& [pid, process] : processes_) {
    const NativeRun& run = runs_.at(process.first);
    if (run.outline.run_id == run_id && run.outline.tasks[process.second.task].step_index == step) {
      runs_.at(process.first).tasks[process.second.task].starts = INT_MAX;
      kill(-pid, SIGKILL);
    }
  }
}

void PipelinesDouble::Evict(const std::string& run_id, uint32_t step) {
  MutexLock lock(&mutex_);
  for (const auto& [pid, process] : processes_) {
    const RunOutline& outline = runs_.at(process.first).outline;
    if (outline.run_id == run_id && outline.tasks[process.second.task].step_index == step) kill(pid, SIGTERM);
  }
}

void PipelinesDouble::Mute(bool muted) {
  MutexLock lock(&mutex_);
  muted_ = muted;
}

void PipelinesDouble::StartWhatMay() {
  for (auto& entry : runs_) {
    NativeRun& run = entry.second;
    for (size_t t = 0; t < run.tasks.size() && !run.failing && !stopping_; ++t) {
      NativeTask& task = run.tasks[t];
      const auto& after = run.outline.tasks[t].after;
      const auto open = [&](size_t a) { return !run.tasks[a].ended; };
      if (task.started || std::any_of(after.begin(), after.end(), open)) continue;
      Process process;
      process.task = t;
      process.place = absl::StrCat("place-", ++number_);
      std::vector<std::string> env;
      for (const auto& [variable, value] : run.outline.env) env.push_back(absl::StrCat(variable, "=", value));
      env.push_back(absl::StrCat("ORCH_TASK=", run.outline.tasks[t].token));
      env.push_back(absl::StrCat("ORCH_PLACE=", process.place));
      env.emplace_back("PATH=/usr/bin:/bin");
      std::vector<char*> environment;
      for (std::string& one : env) environment.push_back(one.data());
      environment.push_back(nullptr);
      std::string program = launcher_;
      std::string verb = "run";
      char* words[] = {program.data(), verb.data(), nullptr};
      posix_spawnattr_t attributes;
      posix_spawnattr_init(&attributes);
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
      const int error = posix_spawn(&process.pid, program.c_str(), nullptr, &attributes, words, environment.data());
      posix_spawnattr_destroy(&attributes);
      if (error != 0) abort();
      task.started = true;
      ++task.starts;
      task.places.insert(process.place);
      processes_[process.pid] = {entry.first, process};
    }
  }
}

void PipelinesDouble::Run() {
  for (;;) {
    std::vector<std::function<void()>> told;
    bool idle = true;
    {
      MutexLock lock(&mutex_);
      for (auto it = processes_.begin(); it != processes_.end();) {
        int status = 0;
        if (waitpid(it->first, &status, WNOHANG) != it->first) {
          ++it;
          continue;
        }
        idle = false;
        NativeRun& run = runs_.at(it->second.first);
        const Process process = it->second.second;
        it = processes_.erase(it);
        NativeTask& task = run.tasks[process.task];
        const RunTask& what = run.outline.tasks[process.task];
        task.status = status;
        if (status != 0 && task.starts < what.starts && !run.failing) {
          task.started = false;  // again
        } else {
          task.ended = true;
          if (status != 0 && run.outline.stops_at_failure) run.failing = true;
        }
        if (heard_ && !muted_) {
          told.emplace_back([h = heard_, id = run.outline.run_id, ix = what.step_index, place = process.place, status] {
            h(id, ix, place, status);
          });
        }
      }
      if (stopping_ && processes_.empty()) return;
      StartWhatMay();
      for (auto& entry : runs_) {
        NativeRun& run = entry.second;
        if (run.ended) continue;
        const auto open = [&](const NativeTask& task) { return task.started ? !task.ended : !run.failing; };
        if (std::any_of(run.tasks.begin(), run.tasks.end(), open)) continue;
        run.ended = true;
        for (size_t t = 0; t < run.tasks.size() && heard_; ++t) {
          if (run.tasks[t].ended) continue;
          told.emplace_back(
              [h = heard_, id = run.outline.run_id, ix = run.outline.tasks[t].step_index] { h(id, ix, "", -1); });
        }
      }
    }
    for (const auto& tell : told) tell();
    if (!idle) continue;
    std::vector<pollfd> ends;
    {
      MutexLock lock(&mutex_);
      for (const auto& [pid, process] : processes_) {
        const auto fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
        if (fd >= 0) ends.push_back({fd, POLLIN, 0});
      }
    }
    poll(ends.data(), ends.size(), kLookMillis);  // what is created meanwhile is started by who creates it
    for (const pollfd& end : ends) close(end.fd);
  }
}

namespace {

class PipelinesBackend : public Backend {
 public:
  PipelinesBackend(PipelinesDouble* platform, std::string dir, std::string launcher, std::string endpoint)
      : platform_(*platform), dir_(std::move(dir)), launcher_(std::move(launcher)), endpoint_(std::move(endpoint)) {}

  absl::Status Start(Listener* listener) override {
    listener_ = listener;
    platform_.SetHeard([this](const std::string& id, uint32_t step, const std::string& place, int status) {
      Heard(id, step, place, status);
    });
    return absl::OkStatus();
  }
  void Stop() override { platform_.SetHeard(nullptr); }
  Capacity capacity() const override { return {}; }
  bool has_own_environment() const override { return true; }
  bool shares_files() const override { return false; }
  bool has_endpoint() const override { return true; }
  bool takes_runs() const override { return true; }
  std::string WhyNotWhole(const RunOutline& outline) const override {
    return outline.tasks.size() > 100 ? "more than 100 steps" : "";
  }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    return RemoteWorkspace(absl::StrCat(dir_, "/", name.key), launcher_, endpoint_);
  }

  void Submit(Unit unit) override {
    if (!unit.outline) return listener_->Refused(unit.key, false, Reason::kSubmitRefused, "whole runs alone");
    Take(unit.key, unit.attempts.at(0).name, unit.outline, "");
    listener_->Accepted(unit.key, "h", "", "");
  }
  std::string Began(absl::string_view key, absl::string_view place) override {
    MutexLock lock(&mutex_);
    const auto found = attempts_.find(std::string(key));
    if (found != attempts_.end()) found->second.place = std::string(place);
    return std::string(place);
  }
  void Cancel(absl::string_view key, CancelMode) override {
    MutexLock lock(&mutex_);
    const auto found = attempts_.find(std::string(key));
    if (found != attempts_.end()) platform_.Kill(found->second.run_id, found->second.step);
  }
  void Release(absl::string_view key) override {
    MutexLock lock(&mutex_);
    attempts_.erase(std::string(key));
  }
  void KeepRuns(std::vector<std::string> ids) override {
    for (const auto& run : platform_.runs()) {
      if (std::find(ids.begin(), ids.end(), run.outline.run_id) == ids.end()) platform_.Delete(run.name);
    }
  }
  void ReleaseRun(absl::string_view id) override {
    for (const auto& run : platform_.runs()) {
      if (run.outline.run_id == id && !run.ended) platform_.Delete(run.name);
    }
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    for (KnownAttempt& known : attempts) {
      if (known.handle.empty() || !known.outline) {
        listener_->NotFound(known.name.key);
        continue;
      }
      Take(known.name.key, known.name, known.outline, known.place);
      for (const auto& run : platform_.runs()) {
        for (size_t t = 0; t < run.tasks.size(); ++t) {
          if (run.outline.run_id != known.name.run_id || known.place.empty()) continue;
          if (run.tasks[t].places.count(known.place) > 0 && run.tasks[t].ended) {
            Heard(known.name.run_id, known.name.step_index, known.place, run.tasks[t].status);
          }
        }
      }
    }
  }
  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("the double keeps no logs");
  }

 private:
  struct Attempt {
    std::string run_id;
    uint32_t step = 0;
    std::string place;
  };

  void Take(const std::string& key, const AttemptName& name, const std::function<absl::StatusOr<RunOutline>()>& outline,
            const std::string& place) {
    {
      MutexLock lock(&mutex_);
      attempts_[key] = {name.run_id, name.step_index, place};
    }
    int number = 1;
    for (const auto& run : platform_.runs()) {
      if (run.outline.run_id != name.run_id) continue;
      ++number;
      for (size_t t = 0; t < run.tasks.size(); ++t) {
        if (run.outline.tasks[t].step_index == name.step_index && !run.tasks[t].ended && !run.ended) return;
      }
    }
    auto made = outline();
    if (!made.ok()) return listener_->Refused(key, true, Reason::kSubmitRefused, std::string(made.status().message()));
    const std::string native = absl::StrCat(made->key, "-", number);
    platform_.Create(native, *std::move(made));
  }

  void Heard(const std::string& id, uint32_t step, const std::string& place, int status) {
    std::vector<std::pair<std::string, AttemptEnd>> ended;
    {
      MutexLock lock(&mutex_);
      for (const auto& [key, attempt] : attempts_) {
        if (attempt.run_id != id || attempt.step != step) continue;
        AttemptEnd end;
        if (status == -1 && attempt.place.empty()) {
          end.reason = Reason::kLost;
          end.message = "its task is not started any more";
          end.never_started = true;
        } else if (status != -1 && attempt.place == place) {
          end.reason = Reason::kLost;
          end.message = "its launcher ended without a word";
        } else {
          continue;
        }
        ended.emplace_back(key, std::move(end));
      }
    }
    for (auto& [key, end] : ended) listener_->Ended(key, std::move(end));
  }

  PipelinesDouble& platform_;
  const std::string dir_;
  const std::string launcher_;
  const std::string endpoint_;
  Listener* listener_ = nullptr;
  Mutex mutex_;
  std::map<std::string, Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

PipelinesHost::PipelinesHost(PipelinesDouble* platform, std::string dir, std::string launcher, std::string endpoint)
    : platform_(platform), dir_(std::move(dir)), launcher_(std::move(launcher)), endpoint_(std::move(endpoint)) {}

absl::StatusOr<std::string> PipelinesHost::Describe(const PluginSource&) { return std::string("pipelines"); }

absl::StatusOr<FlavorInfo> PipelinesHost::Flavor(const std::string&, const PluginSource&, const std::string&) {
  FlavorInfo info;
  info.name = "pipelines";
  info.units = {"run"};
  info.config_schema = "{}";
  info.make = [this](const BackendContext&) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<PipelinesBackend>(platform_, dir_, launcher_, endpoint_);
  };
  return info;
}

}  // namespace orch
