#include "backends/docker/docker_backend.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/api/platform_thread.h"
#include "backends/docker/attempts.h"
#include "backends/docker/config.h"
#include "backends/docker/container.h"
#include "backends/docker/probe.h"
#include "backends/local/log_file.h"
#include "server/base/status.h"

namespace orch {
namespace {

using docker::Config;

class DockerBackend : public Backend {
 public:
  DockerBackend(BackendContext context, Config config)
      : context_(std::move(context)), config_(std::move(config)), attempts_(&context_, &config_) {}

  absl::Status Start(Listener* listener) override {
    thread_.Start(listener);
    return absl::OkStatus();
  }
  void Stop() override { thread_.Stop(); }

  Capacity capacity() const override { return config_.capacity; }
  bool has_own_environment() const override { return true; }
  ProbeReport Probe() override { return docker::ProbeEngine(config_); }
  bool shares_files() const override { return !config_.launched; }
  bool has_endpoint() const override { return true; }

  std::vector<std::string> Check(const Resources&, absl::string_view settings_json) const override {
    std::vector<std::string> faults;
    (void)docker::ReadSettings(config_.settings, settings_json, &faults);
    return faults;
  }

  std::vector<Violation> CheckStep(const StepNeeds& needs) const override {
    std::vector<Violation> faults;
    if (needs.image.empty() && config_.image.empty() && !needs.builds_image) {
      faults.push_back({"image",
                        absl::StrCat("a step on orchestrator `", context_.orchestrator,
                                     "` runs in a container: give it an `image`, or the orchestrator one"),
                        "REQUIRED"});
    }
    if (needs.resources.disk > 0) {
      faults.push_back({"resources.disk", "an engine cannot keep a container to so many bytes of disk; leave it out",
                        "UNSUPPORTED"});
    }
    constexpr int64_t kLeastMemory = 6 << 20;
    if (needs.resources.memory > 0 && needs.resources.memory < kLeastMemory) {
      faults.push_back({"resources.memory", "an engine gives a container at least 6Mi", "TOO_SMALL"});
    }
    return faults;
  }

  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    const std::string own = attempts_.places().Folder(name.key);
    if (!config_.launched) return Workspace{own + "/scratch", own + "/output", true};
    return RemoteWorkspace(
        config_.workspace, absl::StrCat(docker::kPrograms, "/orch-launch"),
        config_.endpoint.empty() ? absl::StrCat("unix:", docker::kSockets, "/http.sock") : config_.endpoint);
  }

  void Submit(Unit unit) override {
    for (AttemptWork& work : unit.attempts) {
      thread_.Post([this, work = std::make_shared<AttemptWork>(std::move(work))] { attempts_.Begin(*work); });
    }
  }
  void Cancel(absl::string_view key, CancelMode mode) override {
    thread_.Post([this, key = std::string(key), mode] { attempts_.Cancel(key, mode == CancelMode::kForced); });
  }
  void Release(absl::string_view key) override {
    thread_.Post([this, key = std::string(key)] { attempts_.Forget(key); });
  }
  bool FinishReleases(std::chrono::milliseconds limit) override {
    return thread_.WaitUntil([this] { return attempts_.CleanedUp(); }, limit);
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    thread_.Post([this, attempts = std::move(attempts)] { attempts_.Adopt(attempts); });
  }

  int64_t LogBytes(const std::string& run_id) override {
    return local::LogFolderBytes(attempts_.places().LogFolder(run_id));
  }
  absl::Status RemoveLogs(const std::string& run_id) override {
    return local::RemoveLogFolder(attempts_.places().LogFolder(run_id));
  }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override {
    return local::OpenLogFile(attempts_.places().LogPrefix(address) +
                              (stream == LogStreamName::kStdout ? ".out" : ".err"));
  }

 private:
  const BackendContext context_;
  const Config config_;
  docker::Attempts attempts_;  // the thread's
  PlatformThread<docker::Attempts, Listener> thread_{&attempts_};
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
