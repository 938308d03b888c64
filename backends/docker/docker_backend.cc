#include "backends/docker/docker_backend.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "backends/docker/config.h"
#include "backends/docker/container_log.h"
#include "backends/docker/engine_client.h"
#include "backends/local/log_file.h"
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace orch {
namespace {

using docker::Answer;
using docker::Config;
using docker::UrlEscape;
using nlohmann::json;

constexpr int kNewestApi = 51;  // 1.51: what this was written for
constexpr int kOldestApi = 41;
constexpr int kCallSeconds = 60;
constexpr int64_t kCheckMicros = 1'000'000;
constexpr int64_t kFirstRetryMicros = 200'000;
constexpr int64_t kLastRetryMicros = 10'000'000;
// Where containers find our own programs; at the end of their PATH.
constexpr char kPrograms[] = "/.orch/bin";
constexpr char kUsualPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr char kInstance[] = "io.orchd.instance";
constexpr char kOrchestrator[] = "io.orchd.orchestrator";
constexpr char kKey[] = "io.orchd.key";

std::string Field(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Microseconds UTC; 0 for the engine's "never".
int64_t WallOf(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return 0;
  return std::max<int64_t>(0, absl::ToUnixMicros(time));
}

// `repo`, `tag` of a reference as pulls want them; one with a digest has no tag of its own.
std::pair<std::string, std::string> SplitImage(const std::string& image) {
  if (absl::StrContains(image, '@')) return {image, ""};
  const size_t slash = image.rfind('/');
  const size_t colon = image.rfind(':');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash)) return {image, "latest"};
  return {image.substr(0, colon), image.substr(colon + 1)};
}

// Whether the engine's init has said that it could not execute the command: its exit code alone could be the command's.
bool InitFailed(const std::string& log_prefix) {
  constexpr absl::string_view kWords = "[FATAL tini (";
  std::string head(kWords.size(), '\0');
  std::ifstream(log_prefix + ".err").read(head.data(), static_cast<std::streamsize>(head.size()));
  return head == kWords;
}

// What an image says of PATH, from its description.
std::string PathOf(const std::string& image) {
  const json parsed = json::parse(image, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("Config") || !parsed["Config"].is_object()) return kUsualPath;
  const auto env = parsed["Config"].find("Env");
  if (env == parsed["Config"].end() || !env->is_array()) return kUsualPath;
  for (const json& variable : *env) {
    absl::string_view text = variable.is_string() ? absl::string_view(variable.get_ref<const std::string&>()) : "";
    if (absl::ConsumePrefix(&text, "PATH=")) return std::string(text);
  }
  return kUsualPath;
}

class DockerBackend : public Backend {
 public:
  DockerBackend(BackendContext context, Config config)
      : context_(std::move(context)), config_(std::move(config)), client_(config_.address) {}
  ~DockerBackend() override { Stop(); }

  absl::Status Start(Listener* listener) override {
    listener_ = listener;
    thread_ = std::thread([this] { Loop(); });
    return absl::OkStatus();
  }

  void Stop() override {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    client_.Wake();
    thread_.join();
  }

  Capacity capacity() const override { return config_.capacity; }
  bool has_own_environment() const override { return true; }

  std::vector<std::string> Check(const Resources&, absl::string_view settings_json) const override {
    std::vector<std::string> faults;
    (void)docker::ReadSettings(config_.settings, settings_json, &faults);
    return faults;
  }

  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    return Workspace{Dir(name.key) + "/scratch", Dir(name.key) + "/output", true};
  }

  void Submit(Unit unit) override {
    for (AttemptWork& work : unit.attempts) {
      Post([this, work = std::make_shared<AttemptWork>(std::move(work))] { Begin(*work); });
    }
  }
  void Cancel(absl::string_view key, CancelMode mode) override {
    Post([this, key = std::string(key), mode] { StopJob(key, mode == CancelMode::kForced); });
  }
  void Release(absl::string_view key) override {
    Post([this, key = std::string(key)] { Forget(key); });
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    Post([this, attempts = std::move(attempts)] {
      for (const KnownAttempt& known : attempts) {
        const auto [it, fresh] = jobs_.try_emplace(known.name.key);
        Job& job = it->second;
        if (!fresh) continue;
        job.phase = Phase::kAdopted;
        job.log_prefix = LogPrefix(known.name);
        job.grace_micros = known.grace_micros;
        job.cancelled = known.stopping;
      }
      adopted_ = true;
      if (connected_) List();
    });
  }

  int64_t LogBytes(const std::string& run_id) override { return local::LogFolderBytes(LogFolder(run_id)); }
  absl::Status RemoveLogs(const std::string& run_id) override { return local::RemoveLogFolder(LogFolder(run_id)); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override {
    return local::OpenLogFile(LogPrefix(address) + (stream == LogStreamName::kStdout ? ".out" : ".err"));
  }

 private:
  enum class Phase {
    kAdopted,  // on record; where it is has to be seen
    kWaiting,  // for an engine that cannot be reached
    kImage,    // its image is looked for, or pulled
    kCreating,
    kStarting,
    kRunning,
    kEnded,
  };
  struct Job {
    Phase phase = Phase::kWaiting;
    AttemptWork work;  // of one that was submitted in this life of the daemon
    std::string log_prefix;
    int64_t grace_micros = 10'000'000;
    std::string id;     // the container's, or its name
    bool ours = false;  // seen to be
    bool cancelled = false;
    bool forced = false;
    bool stop_sent = false;
    bool kill_sent = false;
    bool pulled = false;
    std::string path;         // PATH of its image
    bool began = false;       // it has been reported as started
    bool broken_off = false;  // the engine went away while it ran
    bool over_limit = false;  // of its log
    bool inspecting = false;
    bool look_again = false;  // something happened while it was looked up
    uint64_t transfer = 0;    // of its image
    uint64_t stream = 0;      // of its log
    bool log_done = false;
    std::unique_ptr<docker::ContainerLog> log;
    std::optional<json> state;  // once it has ended
    std::optional<AttemptEnd> end;
  };

  std::string Dir(const std::string& key) const {
    return absl::StrCat(context_.data_dir, "/docker/", context_.orchestrator, "/", key);
  }
  std::string LogFolder(const std::string& run_id) const { return absl::StrCat(context_.data_dir, "/logs/", run_id); }
  // Of an AttemptName or a LogAddress.
  template <typename Name>
  std::string LogPrefix(const Name& name) const {
    return absl::StrCat(LogFolder(name.run_id), "/",
                        name.log.empty() ? absl::StrCat(name.step_index, ".", name.attempt) : name.log);
  }
  static std::string NameOf(const std::string& key) { return absl::StrCat("orch-", key); }
  std::string Path(absl::string_view path) const { return absl::StrCat("/v1.", api_, path); }
  std::string Filters(const json& more) const {
    json filters = more;
    filters["label"] = {absl::StrCat(kInstance, "=", context_.instance),
                        absl::StrCat(kOrchestrator, "=", context_.orchestrator)};
    return UrlEscape(filters.dump());
  }

  // --- the thread ---

  void Post(std::function<void()> task) {
    {
      MutexLock lock(&mutex_);
      tasks_.push_back(std::move(task));
    }
    client_.Wake();
  }

  void Loop() {
    Connect();
    while (true) {
      std::deque<std::function<void()>> tasks;
      {
        MutexLock lock(&mutex_);
        if (stopping_) return;
        tasks.swap(tasks_);
      }
      for (const auto& task : tasks) task();
      int64_t wait = 60'000'000;
      if (check_at_ > 0) {
        wait = check_at_ - Clock::Real().Now().mono;
        if (wait <= 0) {
          check_at_ = 0;
          CheckEnds();
          continue;
        }
      }
      if (retry_at_ > 0) {
        wait = std::min(wait, retry_at_ - Clock::Real().Now().mono);
        if (wait <= 0) {
          retry_at_ = 0;
          Connect();
          continue;
        }
      }
      client_.Poll(static_cast<int>(std::min<int64_t>(wait / 1000 + 1, 60'000)));
    }
  }

  // --- the engine ---

  void CheckEnds() {
    std::vector<std::string> keys;
    for (const auto& [key, job] : jobs_) {
      if (job.phase == Phase::kRunning && job.log_done && !job.state) keys.push_back(key);
    }
    for (const std::string& key : keys) Inspect(key);
  }

  void Connect() {
    client_.Call("GET", "/_ping", "", 10, [this](Answer answer) {
      if (!answer.ok()) return Disconnected(Words(answer));
      int api = kOldestApi;
      const std::vector<std::string> parts = absl::StrSplit(answer.api_version, '.');
      if (parts.size() == 2) (void)absl::SimpleAtoi(parts[1], &api);
      if (api < kOldestApi) {
        return Disconnected(absl::StrCat("the engine speaks API 1.", api, "; 1.", kOldestApi, " or later is needed"));
      }
      api_ = std::min(api, kNewestApi);
      Watch();
    });
  }

  // Events tell at once that something has ended; what they say is looked up, as they may be missed.
  void Watch() {
    event_text_.clear();
    const std::string filters = Filters({{"type", {"container"}}, {"event", {"die", "destroy"}}});
    client_.Stream(
        "GET", Path(absl::StrCat("/events?filters=", filters)),
        [this](absl::string_view bytes) {
          event_text_.append(bytes.data(), bytes.size());
          for (size_t end; (end = event_text_.find('\n')) != std::string::npos; event_text_.erase(0, end + 1)) {
            OnEvent(event_text_.substr(0, end));
          }
          if (event_text_.size() > (1 << 20)) event_text_.clear();
        },
        [this](Answer) {
          BreakOff();
          Connect();  // which says so if it is away
        });
    List();
  }

  void OnEvent(const std::string& line) {
    const json event = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object() || !event.contains("Actor") || !event["Actor"].is_object()) return;
    const auto attributes = event["Actor"].find("Attributes");
    if (attributes == event["Actor"].end() || !attributes->is_object()) return;
    const auto found = jobs_.find(Field(*attributes, kKey));
    if (found != jobs_.end() && found->second.phase == Phase::kRunning) Inspect(found->first);
  }

  std::string Words(const Answer& answer) const {
    if (answer.refused) {
      const bool there = !config_.address.socket.empty() && access(config_.address.socket.c_str(), F_OK) == 0;
      const bool may = there && access(config_.address.socket.c_str(), R_OK | W_OK) == 0;
      if (there && !may) {
        return absl::StrCat("this user may not use the Docker engine at ", config_.address_text,
                            ": it must be in the group that owns the socket");
      }
      return absl::StrCat("no Docker engine listens at ", config_.address_text,
                          ": start one, or name another with `host`");
    }
    return absl::StrCat("the Docker engine at ", config_.address_text, ": ", answer.message());
  }

  // Steps that run may be ended by an engine that goes away.
  void BreakOff() {
    connected_ = false;
    for (auto& [key, job] : jobs_) {
      if (job.phase == Phase::kRunning || job.phase == Phase::kStarting) job.broken_off = true;
    }
  }

  void Disconnected(const std::string& why) {
    const bool news = healthy_ || !told_;
    BreakOff();
    healthy_ = false;
    told_ = true;
    if (retry_at_ == 0) {
      retry_at_ = Clock::Real().Now().mono + backoff_;
      backoff_ = std::min(2 * backoff_, kLastRetryMicros);
    }
    if (news) listener_->HealthChanged(false, why);
  }

  // Everything of ours that the engine has.
  void List() {
    client_.Call("GET", Path(absl::StrCat("/containers/json?all=1&filters=", Filters(json::object()))), "",
                 kCallSeconds, [this](Answer answer) {
                   const json list = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
                   if (answer.status != 200 || !list.is_array()) return Disconnected(Words(answer));
                   Reconcile(list);
                 });
  }

  void Reconcile(const json& list) {
    std::map<std::string, std::string> there;  // key → container
    for (const json& entry : list) {
      if (!entry.is_object() || !entry.contains("Labels") || !entry["Labels"].is_object()) continue;
      there[Field(entry["Labels"], kKey)] = Field(entry, "Id");
    }
    connected_ = true;
    backoff_ = kFirstRetryMicros;
    if (!healthy_) {
      healthy_ = told_ = true;
      listener_->HealthChanged(true, "");
    }
    std::vector<std::string> keys;
    for (const auto& [key, job] : jobs_) keys.push_back(key);
    for (const std::string& key : keys) {
      Job& job = jobs_.at(key);
      const auto found = there.find(key);
      if (found != there.end()) {
        if (job.phase == Phase::kEnded) continue;
        if (job.phase == Phase::kAdopted || job.id.empty()) {
          job.id = found->second;
          job.ours = true;
          listener_->Accepted(key, job.id, NameOf(key), "");
        }
        if (job.stream == 0 || job.phase != Phase::kRunning) Inspect(key);
        continue;
      }
      switch (job.phase) {
        case Phase::kAdopted:
          jobs_.erase(key);
          listener_->NotFound(key);
          break;
        case Phase::kWaiting:
          LookForImage(key);
          break;
        case Phase::kStarting:
        case Phase::kRunning:
          Gone(key);
          break;
        default:
          break;
      }
    }
    if (!adopted_) return;
    for (const auto& [key, id] : there) {  // of attempts that nobody knows any more
      if (jobs_.count(key) == 0) Remove(id);
    }
  }

  void Remove(const std::string& container) {
    client_.Call("DELETE", Path(absl::StrCat("/containers/", container, "?v=1&force=1")), "", kCallSeconds,
                 [](Answer) {});
  }

  // --- an attempt ---

  Job* Find(const std::string& key) {
    const auto found = jobs_.find(key);
    return found == jobs_.end() ? nullptr : &found->second;
  }

  void Begin(AttemptWork& work) {
    const std::string key = work.name.key;
    const auto [it, fresh] = jobs_.try_emplace(key);
    Job& job = it->second;
    if (!fresh) {  // what is known of it
      if (!job.id.empty()) listener_->Accepted(key, job.id, NameOf(key), "");
      if (job.end.has_value()) listener_->Ended(key, *job.end);
      return;
    }
    job.log_prefix = LogPrefix(work.name);
    job.grace_micros = work.grace_micros;
    job.work = std::move(work);
    if (connected_) LookForImage(key);
  }

  std::string ImageOf(const Job& job) const { return job.work.image.empty() ? config_.image : job.work.image; }

  void Refuse(const std::string& key, bool transient, Reason reason, const std::string& message) {
    jobs_.erase(key);
    listener_->Refused(key, transient, reason, message);
  }

  // The engine went away before it heard of the attempt.
  void WaitForEngine(Job& job, const Answer& answer) {
    job.phase = Phase::kWaiting;
    Disconnected(Words(answer));
  }

  void LookForImage(const std::string& key) {
    Job& job = jobs_.at(key);
    job.phase = Phase::kImage;
    const std::string image = ImageOf(job);
    if (image.empty()) {
      return Refuse(key, false, Reason::kSubmitRefused,
                    absl::StrCat("a step on orchestrator `", context_.orchestrator,
                                 "` runs in a container: give it an `image`, or the orchestrator one"));
    }
    if (!job.work.secrets.empty()) {
      return Refuse(key, false, Reason::kSubmitRefused, "secrets for steps in containers are not in this build");
    }
    if (config_.pull == docker::Pull::kAlways && !job.pulled) return PullImage(key);
    job.transfer = client_.Call("GET", Path(absl::StrCat("/images/", image, "/json")), "", kCallSeconds,
                                [this, key, image](Answer answer) {
                                  Job* j = Find(key);
                                  if (j == nullptr) return;
                                  j->transfer = 0;
                                  if (answer.status == 0) return WaitForEngine(*j, answer);
                                  if (answer.ok()) {
                                    j->path = PathOf(answer.body);
                                    return Create(key);
                                  }
                                  if (answer.status == 404 && !j->pulled && config_.pull != docker::Pull::kNever)
                                    return PullImage(key);
                                  Refuse(key, answer.status >= 500, Reason::kImagePullFailed,
                                         absl::StrCat("image `", image, "`: ", answer.message()));
                                });
  }

  void PullImage(const std::string& key) {
    Job& job = jobs_.at(key);
    job.pulled = true;
    const std::string image = ImageOf(job);
    const auto [repository, tag] = SplitImage(image);
    auto text = std::make_shared<std::string>();
    job.transfer = client_.Stream(
        "POST", Path(absl::StrCat("/images/create?fromImage=", UrlEscape(repository), tag.empty() ? "" : "&tag=", tag)),
        [text](absl::string_view bytes) {
          text->append(bytes.data(), bytes.size());
          if (text->size() > (256 << 10)) text->erase(0, text->size() - (128 << 10));  // how far it is; the end counts
        },
        [this, key, image, text](Answer answer) {
          Job* j = Find(key);
          if (j == nullptr) return;
          j->transfer = 0;
          if (answer.status == 0) return WaitForEngine(*j, answer);
          std::string fault = answer.ok() ? "" : answer.message();
          for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
            const json object = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
            if (object.is_object() && object.contains("error")) fault = Field(object, "error");
          }
          if (fault.empty()) return LookForImage(key);
          const bool absent = absl::StrContains(fault, "not found") || absl::StrContains(fault, "denied") ||
                              absl::StrContains(fault, "unauthorized") || absl::StrContains(fault, "invalid reference");
          Refuse(key, !absent, Reason::kImagePullFailed, absl::StrCat("image `", image, "` cannot be pulled: ", fault));
        });
  }

  json Container(const Job& job) const {
    const AttemptWork& work = job.work;
    std::vector<std::string> faults;
    const docker::Settings settings = docker::ReadSettings(config_.settings, work.settings_json, &faults);
    json mounts = json::array();
    const auto bind = [&](const std::string& source, const std::string& target, bool read_only) {
      const bool folder = absl::StartsWith(source, "/");
      mounts.push_back(
          {{"Type", folder ? "bind" : "volume"}, {"Source", source}, {"Target", target}, {"ReadOnly", read_only}});
    };
    // At the same paths as here, so that what is said of them holds inside; nothing else of the daemon's is there.
    for (const char* folder : {"/blobs", "/inputs", "/made"}) {
      const std::string path = context_.data_dir + folder;
      if (access(path.c_str(), F_OK) == 0) bind(path, path, true);
    }
    bind(Dir(work.name.key), Dir(work.name.key), false);
    struct stat st {};
    if (!work.source_dir.empty() && stat(work.source_dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
      bind(work.source_dir, work.source_dir, true);
    }
    const std::string launcher = context_.binary_dir + "/orch-launch";
    if (access(launcher.c_str(), X_OK) == 0) bind(launcher, absl::StrCat(kPrograms, "/orch-launch"), true);
    for (const docker::Mount& mount : settings.mounts) bind(mount.source, mount.target, mount.read_only);

    json host = {{"AutoRemove", false}, {"RestartPolicy", {{"Name", "no"}}},
                 {"Init", true},        {"LogConfig", {{"Type", "json-file"}}},
                 {"Mounts", mounts},    {"NanoCpus", work.resources.cpu_millis * 1'000'000}};
    if (!settings.network.empty()) host["NetworkMode"] = settings.network;
    if (settings.shm_bytes > 0) host["ShmSize"] = settings.shm_bytes;
    if (work.resources.memory > 0) host["Memory"] = host["MemorySwap"] = work.resources.memory;
    if (work.resources.gpu > 0) {
      host["DeviceRequests"] = {{{"Count", work.resources.gpu}, {"Capabilities", {{"gpu"}}}}};
    }
    json environment = json::array();
    bool has_path = false;  // the step's own
    for (const auto& [name, value] : work.env) {
      environment.push_back(absl::StrCat(name, "=", value));
      has_path = has_path || name == "PATH";
    }
    if (!has_path) environment.push_back(absl::StrCat("PATH=", job.path, ":", kPrograms));
    return {{"Image", ImageOf(job)},
            {"Entrypoint", work.command},
            {"Env", environment},
            {"WorkingDir", work.working_dir},
            {"User", settings.user.empty() ? absl::StrCat(geteuid(), ":", getegid()) : settings.user},
            {"Labels",
             {{kInstance, context_.instance},
              {kOrchestrator, context_.orchestrator},
              {kKey, work.name.key},
              {"io.orchd.run", work.name.run_name},
              {"io.orchd.run_id", work.name.run_id},
              {"io.orchd.step", work.name.step},
              {"io.orchd.attempt", absl::StrCat(work.name.attempt)}}},
            {"StopSignal", "SIGTERM"},
            {"HostConfig", host}};
  }

  void Create(const std::string& key) {
    Job& job = jobs_.at(key);
    if (job.cancelled) return EndUnstarted(key);
    job.phase = Phase::kCreating;
    std::error_code error;
    for (const char* folder : {"/scratch", "/output"}) std::filesystem::create_directories(Dir(key) + folder, error);
    ORCH_FAULT("docker.create");
    client_.Call("POST", Path(absl::StrCat("/containers/create?name=", NameOf(key))),
                 Container(job).dump(-1, ' ', false, json::error_handler_t::replace), kCallSeconds,
                 [this, key](Answer answer) {
                   Job* j = Find(key);
                   if (j == nullptr) {  // released meanwhile
                     const json made = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
                     if (answer.status == 201 && made.is_object()) Remove(Field(made, "Id"));
                     return;
                   }
                   ORCH_FAULT("docker.created");
                   Created(key, *j, answer);
                 });
  }

  void Created(const std::string& key, Job& job, const Answer& answer) {
    if (answer.status == 201) {
      job.id = Field(json::parse(answer.body, nullptr, /*allow_exceptions=*/false), "Id");
      job.ours = true;
      listener_->Accepted(key, job.id, NameOf(key), "");
      if (job.cancelled) return EndUnstarted(key);
      return StartContainer(key);
    }
    if (answer.status == 0 && answer.refused) return WaitForEngine(job, answer);
    if (answer.status == 0) {
      jobs_.erase(key);
      listener_->Unknown(key, Words(answer));
      return Disconnected(Words(answer));
    }
    if (answer.status == 409) {  // there is one of that name: ours, unless somebody else took it
      job.id = NameOf(key);
      job.phase = Phase::kStarting;
      return Inspect(key);
    }
    if (answer.status == 404 && !job.pulled && config_.pull != docker::Pull::kNever) return PullImage(key);
    Refuse(key, answer.status >= 500, Reason::kSubmitRefused, Words(answer));
  }

  void StartContainer(const std::string& key) {
    Job& job = jobs_.at(key);
    job.phase = Phase::kStarting;
    ORCH_FAULT("docker.start");
    client_.Call("POST", Path(absl::StrCat("/containers/", job.id, "/start")), "", kCallSeconds,
                 [this, key](Answer answer) {
                   Job* j = Find(key);
                   if (j == nullptr) return;
                   ORCH_FAULT("docker.started");
                   if (answer.status == 0) return Disconnected(Words(answer));  // looked up when it is back
                   if (!answer.ok()) return Inspect(key);
                   Running(key, Clock::Real().Now().wall);
                 });
  }

  void Running(const std::string& key, int64_t started_wall) {
    Job& job = jobs_.at(key);
    job.phase = Phase::kRunning;
    if (!std::exchange(job.began, true)) listener_->Started(key, job.id.substr(0, 12), "", started_wall);
    if (job.stream == 0 && !job.log_done) FollowLog(key);
    // Its log has ended and it has not: the word of its end may be on its way, or be missed.
    if (job.log_done && check_at_ == 0) check_at_ = Clock::Real().Now().mono + kCheckMicros;
    if (job.cancelled) StopContainer(key);
  }

  void FollowLog(const std::string& key) {
    Job& job = jobs_.at(key);
    if (job.log == nullptr) job.log = std::make_unique<docker::ContainerLog>();
    job.log->Open(job.log_prefix);
    job.stream = client_.Stream(
        "GET", Path(absl::StrCat("/containers/", job.id, "/logs?follow=1&stdout=1&stderr=1")),
        [this, key](absl::string_view bytes) {
          Job* j = Find(key);
          if (j == nullptr) return;
          (void)j->log->Feed(bytes);
          const int64_t limit = j->work.log_limit_bytes;
          if (limit > 0 && j->log->total() > limit && !std::exchange(j->over_limit, true)) Kill(*j);
        },
        [this, key](Answer answer) {
          Job* j = Find(key);
          if (j == nullptr) return;
          j->stream = 0;
          j->log->Close();
          if (answer.status == 0) return;  // taken up again when the engine is back
          j->log_done = true;
          if (j->state.has_value()) return Finish(key);
          Inspect(key);
        });
  }

  // Looks where the container is, and goes on from there.
  void Inspect(const std::string& key) {
    Job& job = jobs_.at(key);
    if (std::exchange(job.inspecting, true)) {
      job.look_again = true;
      return;
    }
    client_.Call("GET", Path(absl::StrCat("/containers/", job.id, "/json")), "", kCallSeconds,
                 [this, key](Answer answer) {
                   Job* j = Find(key);
                   if (j == nullptr) return;
                   j->inspecting = false;
                   const bool again = std::exchange(j->look_again, false);
                   if (j->phase == Phase::kEnded) return;
                   if (answer.status == 0) return Disconnected(Words(answer));
                   if (answer.status == 404) return Gone(key);
                   const json container = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
                   if (!answer.ok() || !container.is_object() || !container.contains("State") ||
                       !container["State"].is_object()) {
                     return Disconnected(Words(answer));
                   }
                   Seen(key, *j, container);
                   const Job* still = Find(key);
                   if (again && still != nullptr && still->phase == Phase::kRunning && !still->state) Inspect(key);
                 });
  }

  bool IsOurs(const std::string& key, const json& container) const {
    if (!container.contains("Config") || !container["Config"].is_object()) return false;
    const auto labels = container["Config"].find("Labels");
    return labels != container["Config"].end() && labels->is_object() && Field(*labels, kKey) == key &&
           Field(*labels, kInstance) == context_.instance;
  }

  void Seen(const std::string& key, Job& job, const json& container) {
    if (!IsOurs(key, container)) {
      return Refuse(key, false, Reason::kSubmitRefused,
                    absl::StrCat("somebody else's container is called ", NameOf(key), "; it is left alone"));
    }
    job.ours = true;
    if (const std::string id = Field(container, "Id"); job.id != id) {  // found by its name
      job.id = id;
      listener_->Accepted(key, job.id, NameOf(key), "");
    }
    const json& state = container["State"];
    const std::string status = Field(state, "Status");
    const int64_t started = WallOf(Field(state, "StartedAt"));
    if (status == "running" || status == "paused" || status == "restarting") return Running(key, started);
    if (status == "created" && started == 0 && Field(state, "Error").empty()) {
      if (job.cancelled) return EndUnstarted(key);
      return StartContainer(key);
    }
    job.state = state;
    if (started == 0) return Finish(key);  // it could not be started
    if (!std::exchange(job.began, true)) listener_->Started(key, job.id.substr(0, 12), "", started);
    if (job.log_done) return Finish(key);
    job.phase = Phase::kRunning;
    if (job.stream == 0) FollowLog(key);  // to its end
  }

  void End(const std::string& key, AttemptEnd end) {
    Job& job = jobs_.at(key);
    job.phase = Phase::kEnded;
    end.output_dir = Dir(key) + "/output";
    end.scratch_dir = Dir(key) + "/scratch";
    if (end.ended_wall == 0) end.ended_wall = Clock::Real().Now().wall;
    job.end = end;
    listener_->Ended(key, std::move(end));
  }

  void EndUnstarted(const std::string& key) {
    AttemptEnd end;
    end.reason = Reason::kCancelRequested;
    end.stopped = end.never_started = true;
    End(key, std::move(end));
  }

  void Gone(const std::string& key) {
    Job& job = jobs_.at(key);
    job.phase = Phase::kEnded;
    if (job.stream != 0) client_.Abort(job.stream);
    job.stream = 0;
    listener_->Lost(key, absl::StrCat("its container ", NameOf(key), " was removed by somebody else"));
  }

  // Its state and its whole log are known.
  void Finish(const std::string& key) {
    Job& job = jobs_.at(key);
    const json state = *job.state;
    const int code =
        state.contains("ExitCode") && state["ExitCode"].is_number_integer() ? state["ExitCode"].get<int>() : -1;
    const std::string fault = Field(state, "Error");
    AttemptEnd end;
    end.started_wall = WallOf(Field(state, "StartedAt"));
    end.ended_wall = WallOf(Field(state, "FinishedAt"));
    end.stopped = job.stop_sent || job.kill_sent;
    if (job.log != nullptr) {
      end.stdout_bytes = job.log->bytes(false);
      end.stderr_bytes = job.log->bytes(true);
    }
    const bool oom = state.contains("OOMKilled") && state["OOMKilled"].is_boolean() && state["OOMKilled"].get<bool>();
    if (end.started_wall == 0) {
      end.never_started = true;
      const bool command = code == 126 || code == 127 || absl::StrContains(fault, "exec: \"");
      end.reason = command ? Reason::kCommandNotFound : Reason::kUnschedulable;
      end.message = absl::StrCat("the engine could not start it: ", fault);
      return End(key, std::move(end));
    }
    if ((code == 126 || code == 127) && InitFailed(job.log_prefix)) {
      end.never_started = true;
      end.reason = Reason::kCommandNotFound;
      const std::string program = job.work.command.empty() ? "" : absl::StrCat("`", job.work.command[0], "` ");
      end.message = absl::StrCat("the program ", program, "cannot be executed: it is not in the image, or no program");
    } else if (job.over_limit) {
      end.reason = Reason::kLogLimit;
      end.message = absl::StrCat("it wrote ", end.stdout_bytes + end.stderr_bytes, " bytes of log (limit log_bytes)");
    } else if (code == 0) {
      end.exit_code = 0;
    } else if (oom) {
      end.reason = Reason::kOutOfMemory;
      end.signal = 9;
      end.message = absl::StrCat("out of memory: it may use ", job.work.resources.memory, " bytes");
    } else if (job.broken_off && !end.stopped && (code == 137 || code == 143)) {
      job.phase = Phase::kEnded;
      return listener_->Lost(key, "the Docker engine was stopped while it ran, and ended it");
    } else if (code > 128 && code <= 128 + 64) {  // its init passes signals on like this
      end.signal = code - 128;
      end.reason = Reason::kSignaled;
      end.message = absl::StrCat("ended by signal ", *end.signal, " (", strsignal(*end.signal), ")");
    } else {
      end.exit_code = code;
      end.reason = Reason::kExitCode;
      end.message = absl::StrCat("exit code ", code);
    }
    End(key, std::move(end));
  }

  // --- stopping and cleaning up ---

  void StopJob(const std::string& key, bool forced) {
    Job* job = Find(key);
    if (job == nullptr || job->phase == Phase::kEnded) return;
    job->cancelled = true;
    job->forced = job->forced || forced;
    switch (job->phase) {
      case Phase::kWaiting:
      case Phase::kImage:
        if (job->transfer != 0) client_.Abort(job->transfer);
        job->transfer = 0;
        return EndUnstarted(key);
      case Phase::kRunning:
        return StopContainer(key);
      default:
        return;  // once it is known where it is
    }
  }

  void StopContainer(const std::string& key) {
    Job& job = jobs_.at(key);
    if (job.forced) return Kill(job);
    if (std::exchange(job.stop_sent, true)) return;
    const int64_t seconds = (job.grace_micros + 999'999) / 1'000'000;
    client_.Call("POST", Path(absl::StrCat("/containers/", job.id, "/stop?t=", seconds)), "", 0, [](Answer) {});
  }

  void Kill(Job& job) {
    if (std::exchange(job.kill_sent, true)) return;
    client_.Call("POST", Path(absl::StrCat("/containers/", job.id, "/kill?signal=SIGKILL")), "", kCallSeconds,
                 [](Answer) {});
  }

  void Forget(const std::string& key) {
    bool known = false;
    const auto found = jobs_.find(key);
    if (found != jobs_.end()) {
      if (found->second.transfer != 0) client_.Abort(found->second.transfer);
      if (found->second.stream != 0) client_.Abort(found->second.stream);
      if (found->second.ours) Remove(found->second.id);
      known = found->second.ours;
      jobs_.erase(found);
    }
    if (!known) {  // there may be one by that name, and it may be somebody else's
      client_.Call("GET", Path(absl::StrCat("/containers/", NameOf(key), "/json")), "", kCallSeconds,
                   [this, key](Answer answer) {
                     const json container = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
                     if (answer.ok() && container.is_object() && IsOurs(key, container)) Remove(Field(container, "Id"));
                   });
    }
    std::error_code error;
    std::filesystem::remove_all(Dir(key), error);
  }

  const BackendContext context_;
  const Config config_;
  Listener* listener_ = nullptr;
  std::thread thread_;
  Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Of the thread.
  docker::EngineClient client_;
  std::unordered_map<std::string, Job> jobs_;  // by key
  std::string event_text_;
  int api_ = kOldestApi;
  bool connected_ = false;
  bool healthy_ = false;  // as HealthChanged has told
  bool told_ = false;     // anything yet
  bool adopted_ = false;
  int64_t retry_at_ = 0;  // mono; 0: no try is due
  int64_t check_at_ = 0;  // the same, for CheckEnds
  int64_t backoff_ = kFirstRetryMicros;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeDockerBackend(const BackendContext& context) {
  ASSIGN_OR_RETURN(Config config, docker::ReadConfig(context.config_json));
  return std::unique_ptr<Backend>(std::make_unique<DockerBackend>(context, std::move(config)));
}

FlavorInfo DockerFlavor() {
  FlavorInfo info;
  info.name = "local_docker";
  info.description = "containers of a Docker engine on this machine";
  info.units = {"step"};
  info.needs = "the socket of a Docker engine, API 1.41 or later";
  info.native = {"cancel", "live logs", "cpu and memory limits", "submit by name"};
  info.supplied = {"retries", "time-outs", "cache", "execution modes", "run page"};
  info.config_schema = docker::kConfigSchema;
  info.settings_schema = docker::kSettingsSchema;
  info.make = MakeDockerBackend;
  return info;
}

}  // namespace orch
