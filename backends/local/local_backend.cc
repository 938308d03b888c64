#include "backends/local/local_backend.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/local/config.h"
#include "backends/local/log_compressor.h"
#include "backends/local/log_file.h"
#include "backends/local/supervisor_link.h"
#include "server/base/fault.h"
#include "server/base/mutex.h"
#include "server/base/planted.h"
#include "server/base/status.h"

namespace orch {
namespace {

using local::Config;
using nlohmann::json;

constexpr uintmax_t kRoomBytes = uintmax_t{128} << 20;  // below it the daemon takes no new work
constexpr char kVisibleDevices[] = "CUDA_VISIBLE_DEVICES";

// What the supervisor saw, in the daemon's words.
AttemptEnd Translate(const local::End& end) {
  AttemptEnd out;
  out.stopped = end.stopped;
  out.started_wall = end.started_wall;
  if (end.pid != 0) out.external_id = absl::StrCat(end.pid);
  out.ended_wall = end.ended_wall;
  out.cpu_seconds = static_cast<double>(end.cpu_micros) / 1e6;
  out.peak_memory = end.peak_memory;
  out.stdout_bytes = end.stdout_bytes;
  out.stderr_bytes = end.stderr_bytes;
  switch (end.kind) {
    case local::End::Kind::kExecFailed:
      out.reason = Reason::kCommandNotFound;
      out.never_started = true;
      if (end.status != ENOENT) {
        out.message = absl::StrCat("`", end.subject, "` cannot be executed: ", strerror(end.status));
      } else if (absl::StrContains(end.subject, '/')) {
        out.message = absl::StrCat("the program `", end.subject, "` does not exist, or its interpreter does not");
      } else {
        out.message = absl::StrCat("the program `", end.subject, "` is not in the step's PATH");
      }
      return out;
    case local::End::Kind::kChdirFailed:
      out.reason = Reason::kWorkingDirInvalid;
      out.never_started = true;
      out.message = absl::StrCat("the working directory `", end.subject, "` cannot be entered: ", strerror(end.status));
      return out;
    case local::End::Kind::kSpawnFailed:
      out.reason = Reason::kUnschedulable;
      out.never_started = true;
      out.message = absl::StrCat("this machine could not make a process: ", strerror(end.status));
      return out;
    case local::End::Kind::kLost:
      out.reason = Reason::kLost;
      out.message = "the supervisor that had it ended; what was left of the step has been ended too";
      return out;
    case local::End::Kind::kExited:
      break;
  }
  if (WIFSIGNALED(end.status)) {
    out.signal = WTERMSIG(end.status);
    out.reason = end.oom ? Reason::kOutOfMemory : Reason::kSignaled;
    out.message = absl::StrCat("ended by signal ", *out.signal, " (", strsignal(*out.signal), ")");
  } else {
    out.exit_code = WEXITSTATUS(end.status);
    if (*out.exit_code != 0) {
      out.reason = Reason::kExitCode;
      out.message = absl::StrCat("exit code ", *out.exit_code);
    }
  }
  if (end.log_limit) {
    out.reason = Reason::kLogLimit;
    out.message = absl::StrCat("it wrote ", end.stdout_bytes + end.stderr_bytes, " bytes of log (limit log_bytes)");
  }
  return out;
}

class LocalBackend : public Backend {
 public:
  LocalBackend(BackendContext context, Config config) : context_(std::move(context)), config_(std::move(config)) {}
  ~LocalBackend() override { Stop(); }

  absl::Status Start(Listener* listener) override {
    listener_ = listener;
    local::SupervisorLink::Options options;
    options.data_dir = context_.data_dir;
    options.program = context_.binary_dir + "/orch-supervisor";
    options.version = absl::StrCat(ORCH_VERSION, local::kWireLayout);
    if (const char* other = faults_armed ? getenv("ORCH_VERSION_AS") : nullptr) {
      options.version = options.version_as = other;  // a test of what an upgrade does
    }
    options.epoch = context_.epoch;
    options.name = context_.orchestrator;
    options.cgroups = config_.cgroups;
    local::SupervisorLink::Handlers handlers;
    handlers.welcomed = [this](uint64_t connection, local::Welcome welcome) {
      Welcomed(connection, std::move(welcome));
    };
    handlers.started = [this](const local::Started& started) { OnStarted(started); };
    handlers.exited = [this](const local::Exited& exited) { OnExited(exited); };
    handlers.health = [this](bool up, std::string why) {
      {
        MutexLock lock(&mutex_);
        if (!adopted_) return;
      }
      listener_->HealthChanged(up, std::move(why));
    };
    link_ = std::make_unique<local::SupervisorLink>(std::move(options), std::move(handlers));
    compressor_ = std::make_unique<local::LogCompressor>(
        absl::StrCat(context_.data_dir, "/local/to-compress-", context_.orchestrator), context_.log_compress_bytes);
    compressor_->Resume();
    return link_->Start();
  }

  void Stop() override {
    if (link_ != nullptr) link_->Stop();
    compressor_ = nullptr;
  }

  ProbeReport Probe() override {
    ProbeReport report;
    const pid_t supervisor = link_->supervisor_pid();
    const bool lives = supervisor > 0 && (kill(supervisor, 0) == 0 || errno == EPERM);
    report.checks.push_back({"supervisor", lives,
                             lives ? absl::StrCat("process ", supervisor) : "the supervisor of local steps is gone",
                             lives ? "" : "the daemon starts another by itself; if it does not, its log says why"});
    const std::string program = context_.binary_dir + "/orch-supervisor";
    const bool there = access(program.c_str(), X_OK) == 0;
    report.checks.push_back({"program", there, there ? program : absl::StrCat(program, ": ", strerror(errno)),
                             there ? "" : "put orch-supervisor back beside orchd"});
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(context_.data_dir, error);
    const bool room = !error && space.available >= kRoomBytes;
    report.checks.push_back(
        {"disk", room,
         error ? error.message() : absl::StrCat(space.available >> 20, " MiB free in ", context_.data_dir),
         room ? "" : "make room: orchctl prune, or a larger disk"});
    return report;
  }

  Capacity capacity() const override { return config_.capacity; }
  bool accept_is_start() const override { return true; }
  bool shares_files() const override { return !config_.launched; }
  bool has_endpoint() const override { return config_.handed || !context_.step_sockets.empty(); }
  bool reaches_only_stores() const override { return config_.handed; }

  std::vector<std::string> Check(const Resources&, absl::string_view settings_json) const override {
    const json settings = json::parse(settings_json.empty() ? "{}" : std::string(settings_json), nullptr, false);
    std::vector<std::string> faults;
    if (!settings.is_object()) return {"must be a mapping"};
    for (const auto& [key, value] : settings.items()) {
      faults.push_back(absl::StrCat("`", key, "`: flavor local has no settings for steps"));
    }
    return faults;
  }

  std::vector<Violation> CheckStep(const StepNeeds& needs) const override {
    if (needs.resources.disk == 0) return {};
    return {{"resources.disk", "this machine's disk is not divided among local steps; leave it out", "UNSUPPORTED"}};
  }

  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    MutexLock lock(&mutex_);
    Job& job = jobs_[name.key];
    if (job.slot.empty()) {
      int64_t number = 0;
      if (free_.empty()) {
        number = next_slot_++;
      } else {
        number = *free_.begin();
        free_.erase(free_.begin());
      }
      job.slot = absl::StrCat(context_.orchestrator, "/", number);
      holders_[job.slot] = name.key;
    }
    const std::string dir = SlotDir(job.slot);
    // Within the scratch folder, so that it goes with it.
    if (config_.launched) {
      Workspace workspace = RemoteWorkspace(dir + "/scratch/step", context_.binary_dir + "/orch-launch",
                                            absl::StrCat("unix:", context_.step_sockets, "/http.sock"));
      workspace.handed = config_.handed;
      return workspace;
    }
    return Workspace{dir + "/scratch", dir + "/output", true};
  }

  void Submit(Unit unit) override {
    std::vector<std::string> refused;
    for (AttemptWork& work : unit.attempts) {
      local::Spawn spawn;
      spawn.key = work.name.key;
      spawn.argv = std::move(work.command);
      if (!work.task_file.empty()) spawn.argv.push_back(std::move(work.task_file));
      spawn.cwd = std::move(work.working_dir);
      spawn.log_prefix = LogPrefix(work.name);
      spawn.log_limit = work.log_limit_bytes;
      for (SecretValue& secret : work.secrets) {
        spawn.secrets.push_back({std::move(secret.variable), std::move(secret.value), secret.file});
      }
      for (auto& [name, value] : work.env) spawn.env.push_back(absl::StrCat(name, "=", value));
      if (config_.launched) spawn.env.emplace_back("ORCH_STOP=all");  // the supervisor's stop reaches each process
      const bool sees_gpus =
          !config_.devices.empty() && std::none_of(work.env.begin(), work.env.end(), [](const auto& v) {
            return v.first == kVisibleDevices;  // the author knows better
          });
      MutexLock lock(&mutex_);
      if (!TakeDevices(spawn.key, work.resources.gpu, &spawn.devices)) {
        refused.push_back(spawn.key);
        continue;
      }
      if (sees_gpus) spawn.env.push_back(absl::StrCat(kVisibleDevices, "=", spawn.devices));
      Job& job = jobs_[spawn.key];
      job.sent = true;
      job.gone = false;
      job.grace_micros = work.grace_micros;
      job.log_prefix = spawn.log_prefix;
      spawn.slot = job.slot;
      // Under the lock, so that no Welcome can be judged between the word and the note of it. Without a connection
      // nothing is lost: the next Welcome does not know the key, and it is submitted again.
      job.connection = link_->Send(Encode(spawn));
      ORCH_FAULT("local.spawn_sent");
    }
    for (const std::string& key : refused) {
      listener_->Refused(key, /*transient=*/true, Reason::kUnschedulable,
                         "its GPUs are still held by an attempt that is being ended");
    }
  }

  void Cancel(absl::string_view key, CancelMode mode) override {
    int64_t grace = 10'000'000;
    MutexLock lock(&mutex_);
    const auto found = jobs_.find(std::string(key));
    if (found == jobs_.end()) return;
    if (found->second.grace_micros > 0) grace = found->second.grace_micros;
    found->second.cancelled = true;
    found->second.forced = found->second.forced || mode == CancelMode::kForced;
    (void)link_->Send(Encode(local::Cancel{found->first, mode == CancelMode::kForced, grace}));
    ORCH_FAULT("local.cancel_sent");
  }

  void Release(absl::string_view key) override {
    MutexLock lock(&mutex_);
    const auto found = jobs_.find(std::string(key));
    if (found == jobs_.end()) {
      Settle(std::string(key), "", true);
      return;
    }
    const Job job = found->second;
    jobs_.erase(found);
    if (!job.sent) {
      FreeSlot(std::string(key), job.slot);
    } else {
      Settle(std::string(key), job.slot, job.ended || job.gone);
    }
    ORCH_FAULT("local.ack_sent");
  }

  void Adopt(std::vector<KnownAttempt> attempts) override {
    Reconcile([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (const KnownAttempt& known : attempts) {
        Job& job = jobs_[known.name.key];
        job.sent = !ORCH_PLANTED("forget_adoption");
        job.cancelled = job.cancelled || known.stopping;
        job.grace_micros = known.grace_micros;
        job.log_prefix = LogPrefix(known.name);
      }
      adopted_ = true;
    });
  }

  int64_t LogBytes(const std::string& run_id) override { return local::LogFolderBytes(LogFolder(run_id)); }
  absl::Status RemoveLogs(const std::string& run_id) override { return local::RemoveLogFolder(LogFolder(run_id)); }

  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override {
    return local::OpenLogFile(LogPrefix(address) + (stream == LogStreamName::kStdout ? ".out" : ".err"));
  }

 private:
  struct Job {
    std::string slot;
    bool sent = false;
    bool cancelled = false;
    bool forced = false;
    bool ended = false;
    bool gone = false;        // the supervisor does not know it
    uint64_t connection = 0;  // that its Spawn went to
    int64_t grace_micros = 0;
    std::string log_prefix;
  };

  struct Unsettled {
    std::string slot;
    uint64_t connection = 0;  // that the last word of it went to
  };

  std::string SlotDir(const std::string& slot) const { return absl::StrCat(context_.data_dir, "/local/slots/", slot); }
  std::string LogFolder(const std::string& run_id) const { return absl::StrCat(context_.data_dir, "/logs/", run_id); }
  // Of an AttemptName or a LogAddress.
  template <typename Name>
  std::string LogPrefix(const Name& name) const {
    return absl::StrCat(LogFolder(name.run_id), "/",
                        name.log.empty() ? absl::StrCat(name.step_index, ".", name.attempt) : name.log);
  }
  bool Ours(const std::string& slot) const {
    return slot.size() > context_.orchestrator.size() && slot[context_.orchestrator.size()] == '/' &&
           absl::StartsWith(slot, context_.orchestrator);
  }
  int64_t NumberOf(const std::string& slot) const { return atoll(slot.c_str() + context_.orchestrator.size() + 1); }

  // By the attempt that holds it; another may have got it meanwhile.
  void FreeSlot(const std::string& key, const std::string& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    FreeDevices(key);
    const auto held = holders_.find(slot);
    if (held == holders_.end() || held->second != key) return;
    holders_.erase(held);
    free_.insert(NumberOf(slot));
  }
  // True and their names, if so many are free; again the same for a key that has some.
  bool TakeDevices(const std::string& key, int64_t count, std::string* names) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::string> chosen;
    for (const auto& [device, holder] : device_holders_) {
      if (holder == key) chosen.push_back(device);
    }
    for (const std::string& device : config_.devices) {
      if (static_cast<int64_t>(chosen.size()) >= count) break;
      if (device_holders_.count(device) == 0) chosen.push_back(device);
    }
    if (static_cast<int64_t>(chosen.size()) < count) return false;
    for (const std::string& device : chosen) device_holders_[device] = key;
    *names = absl::StrJoin(chosen, ",");
    return true;
  }
  void FreeDevices(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = device_holders_.begin(); it != device_holders_.end();) {
      it = it->second == key ? device_holders_.erase(it) : std::next(it);
    }
  }
  void UseSlot(const std::string& key, const std::string& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!holders_.emplace(slot, key).second) return;
    const int64_t number = NumberOf(slot);
    for (; next_slot_ <= number; ++next_slot_) free_.insert(next_slot_);
    free_.erase(number);
  }

  // The supervisor shall forget this one, whose slot is free only once it has: what is still in the slot, or is cleaned
  // out of it late, would be another attempt's. `over`: no process of it is left.
  void Settle(const std::string& key, const std::string& slot, bool over) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const uint64_t sent =
        link_->Send(over ? Encode(local::Ack{key}) : Encode(local::Cancel{key, /*forced=*/true, /*grace_micros=*/0}));
    if (over && sent != 0) {  // a Spawn into the slot comes behind it
      unsettled_.erase(key);
      FreeSlot(key, slot);
    } else {
      unsettled_[key] = {slot, sent};
    }
  }

  void Welcomed(uint64_t connection, local::Welcome welcome) {
    Reconcile([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (const local::Entry& entry : welcome.entries) {
        if (!Ours(entry.slot)) continue;
        UseSlot(entry.key, entry.slot);  // also those we do not know: they hold it until they are settled
        if (entry.end.has_value()) continue;
        for (const absl::string_view device : absl::StrSplit(entry.devices, ',', absl::SkipEmpty())) {
          device_holders_[std::string(device)] = entry.key;
        }
      }
      welcome_ = std::move(welcome);
      connection_ = connection;
    });
  }

  // Tells where every attempt of ours stands, from what the supervisor last said it has, and settles what nobody waits
  // for any more: the word of it was lost with a connection, or the daemon that had it with its place.
  // `news`: what has come to be known, under the same lock.
  template <typename News>
  void Reconcile(const News& news) {
    std::vector<local::Entry> found;
    std::vector<std::string> missing;
    bool journal_read = false;
    {
      MutexLock lock(&mutex_);
      news();
      if (!adopted_ || !welcome_.has_value()) return;
      const local::Welcome welcome = *std::exchange(welcome_, std::nullopt);
      journal_read = welcome.journal_read;
      std::map<std::string, local::Entry> entries;
      for (const local::Entry& entry : welcome.entries) {
        if (Ours(entry.slot)) entries[entry.key] = entry;
      }
      for (auto& [key, job] : jobs_) {
        const auto entry = entries.find(key);
        if (entry == entries.end()) {
          // One that went to this connection is behind the Welcome.
          if (!job.sent || job.ended || job.connection == connection_) continue;
          job.gone = true;
          FreeDevices(key);
          missing.push_back(key);
          continue;
        }
        job.slot = entry->second.slot;
        if (job.cancelled && !entry->second.end.has_value()) {
          (void)link_->Send(Encode(local::Cancel{key, job.forced, job.grace_micros}));
        }
        if (!job.ended) found.push_back(std::move(entry->second));
        entries.erase(entry);
      }
      for (auto left = unsettled_.begin(); left != unsettled_.end();) {
        if (entries.count(left->first) > 0 || left->second.connection == connection_) {
          ++left;
          continue;
        }
        FreeSlot(left->first, left->second.slot);
        left = unsettled_.erase(left);
      }
      for (const auto& [key, entry] : entries) Settle(key, entry.slot, entry.end.has_value());
    }
    for (const std::string& key : missing) {
      if (journal_read) {
        listener_->NotFound(key);  // it never began
      } else {
        listener_->Lost(key, "the supervisor's journal is gone; what was left of its steps has been ended");
      }
    }
    for (const local::Entry& entry : found) {
      if (entry.pid != 0) OnStarted({entry.key, entry.pid, entry.started_wall});
      if (entry.end.has_value()) OnExited({entry.key, *entry.end});
    }
  }

  void OnStarted(const local::Started& started) {
    {
      MutexLock lock(&mutex_);
      if (jobs_.count(started.key) == 0) return;
    }
    listener_->Started(started.key, absl::StrCat(started.pid), "", started.wall);
  }

  void OnExited(const local::Exited& exited) {
    AttemptEnd end = Translate(exited.end);
    std::string log_prefix;
    {
      MutexLock lock(&mutex_);
      FreeDevices(exited.key);  // before the daemon hears that its place is free
      const auto found = jobs_.find(exited.key);
      if (found == jobs_.end()) {
        if (welcome_.has_value()) {  // told by Adopt, which knows whose it is
          for (local::Entry& entry : welcome_->entries) {
            if (entry.key == exited.key) entry.end = exited.end;
          }
        } else if (const auto left = unsettled_.find(exited.key); left != unsettled_.end()) {
          Settle(exited.key, std::string(left->second.slot), true);
        }
        return;
      }
      found->second.ended = true;
      log_prefix = found->second.log_prefix;
      end.output_dir = SlotDir(found->second.slot) + "/output";
      end.scratch_dir = SlotDir(found->second.slot) + "/scratch";
    }
    // No process of it is left: its logs are whole.
    if (!log_prefix.empty() && compressor_ != nullptr) {
      compressor_->Add(log_prefix + ".out", exited.end.stdout_bytes);
      compressor_->Add(log_prefix + ".err", exited.end.stderr_bytes);
    }
    if (end.reason == Reason::kLost) {
      listener_->Lost(exited.key, end.message);
    } else {
      listener_->Ended(exited.key, std::move(end));
    }
  }

  const BackendContext context_;
  const Config config_;
  Listener* listener_ = nullptr;
  std::unique_ptr<local::SupervisorLink> link_;
  std::unique_ptr<local::LogCompressor> compressor_;
  Mutex mutex_;
  std::unordered_map<std::string, Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::set<int64_t> free_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::string> holders_ ABSL_GUARDED_BY(mutex_);  // key, by slot
  int64_t next_slot_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::string> device_holders_ ABSL_GUARDED_BY(mutex_);  // key, by GPU
  bool adopted_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<local::Welcome> welcome_ ABSL_GUARDED_BY(mutex_);  // until Reconcile has judged it
  uint64_t connection_ ABSL_GUARDED_BY(mutex_) = 0;                // of the welcome
  // Slots, by key, of attempts that the daemon is done with and the supervisor may not be.
  std::map<std::string, Unsettled> unsettled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeLocalBackend(const BackendContext& context) {
  ASSIGN_OR_RETURN(Config config, local::ReadConfig(context.config_json));
  return std::unique_ptr<Backend>(std::make_unique<LocalBackend>(context, std::move(config)));
}

FlavorInfo LocalFlavor() {
  FlavorInfo info;
  info.name = "local";
  info.description = "processes of this machine that outlive the daemon and are adopted again";
  info.units = {"step"};
  info.needs = "nothing";
  info.native = {"live logs", "cancel of the whole process tree", "cpu, memory and gpu slots (memory is not enforced)"};
  info.supplied = {"retries", "time-outs", "cache", "execution modes"};
  info.config_schema = local::kConfigSchema;
  info.settings_schema = R"({"type":"object","additionalProperties":false,"properties":{}})";
  info.make = MakeLocalBackend;
  return info;
}

}  // namespace orch
