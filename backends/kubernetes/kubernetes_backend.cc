#include "backends/kubernetes/kubernetes_backend.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/api/platform_thread.h"
#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/jobs.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/probe.h"
#include "backends/local/log_file.h"
#include "server/base/status.h"

namespace orch {
namespace {

using kubernetes::Config;

class KubernetesBackend : public Backend {
 public:
  KubernetesBackend(BackendContext context, Config config)
      : context_(std::move(context)), config_(std::move(config)), jobs_(&context_, &config_) {}

  absl::Status Start(Listener* listener) override {
    thread_.Start(listener);
    return absl::OkStatus();
  }
  void Stop() override { thread_.Stop(); }

  Capacity capacity() const override { return config_.capacity; }
  bool has_own_environment() const override { return true; }
  bool shares_files() const override { return false; }
  bool has_endpoint() const override { return !config_.endpoint.empty(); }
  ProbeReport Probe() override { return kubernetes::ProbeCluster(config_, context_.instance, context_.orchestrator); }

  std::vector<std::string> Check(const Resources& resources, absl::string_view settings_json) const override {
    (void)resources;
    std::vector<Violation> found;
    (void)kubernetes::ReadSettings(config_.settings, settings_json, &found);
    std::vector<std::string> faults;
    for (const Violation& fault : found) {
      faults.push_back(fault.field.empty() ? fault.description
                                           : absl::StrCat("`", fault.field, "`: ", fault.description));
    }
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
    return faults;
  }

  absl::StatusOr<Workspace> Prepare(const AttemptName&) override {
    return RemoteWorkspace(kubernetes::kWork, kubernetes::LauncherCommand(config_), config_.endpoint);
  }

  void Submit(Unit unit) override {
    for (AttemptWork& work : unit.attempts) {
      thread_.Post([this, work = std::make_shared<AttemptWork>(std::move(work))] { jobs_.Begin(*work); });
    }
  }
  void Cancel(absl::string_view key, CancelMode mode) override {
    thread_.Post([this, key = std::string(key), mode] { jobs_.Cancel(key, mode == CancelMode::kForced); });
  }
  void Release(absl::string_view key) override {
    thread_.Post([this, key = std::string(key)] { jobs_.Forget(key); });
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    thread_.Post([this, attempts = std::move(attempts)] { jobs_.Adopt(attempts); });
  }

  int64_t LogBytes(const std::string& run_id) override { return local::LogFolderBytes(jobs_.LogFolder(run_id)); }
  absl::Status RemoveLogs(const std::string& run_id) override {
    return local::RemoveLogFolder(jobs_.LogFolder(run_id));
  }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override {
    return local::OpenLogFile(jobs_.LogPrefix(address) + (stream == LogStreamName::kStdout ? ".out" : ".err"));
  }

 private:
  const BackendContext context_;
  const Config config_;
  kubernetes::Jobs jobs_;  // the thread's
  PlatformThread<kubernetes::Jobs, Listener> thread_{&jobs_};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeKubernetesBackend(const BackendContext& context) {
  ASSIGN_OR_RETURN(Config config, kubernetes::ReadConfig(context.config_json));
  if (!context.registered) RETURN_IF_ERROR(kubernetes::FindCluster(config).status());
  return std::unique_ptr<Backend>(std::make_unique<KubernetesBackend>(context, std::move(config)));
}

FlavorInfo KubernetesFlavor() {
  FlavorInfo info;
  info.name = "kubernetes";
  info.description = "Jobs in a Kubernetes namespace, watched and not polled";
  info.units = {"step"};
  info.needs = "a cluster that a kubeconfig or a service account can reach";
  info.native = {"scheduling", "cancel", "live logs", "resource limits", "submit by name"};
  info.supplied = {"retries", "time-outs", "caching", "slots", "run page"};
  info.config_schema = kubernetes::ConfigSchema();
  info.settings_schema = kubernetes::SettingsSchema();
  info.make = MakeKubernetesBackend;
  return info;
}

}  // namespace orch
