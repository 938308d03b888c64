#include "backends/kubernetes/pod_backend.h"

#include "absl/strings/str_cat.h"
#include "backends/kubernetes/manifest.h"
#include "backends/local/log_file.h"

namespace orch::kubernetes {

PodBackend::PodBackend(BackendContext context, Config config, const JobKind* kind)
    : context_(std::move(context)), config_(std::move(config)), jobs_(&context_, &config_, kind) {}

absl::Status PodBackend::Start(Listener* listener) {
  thread_.Start(listener);
  return absl::OkStatus();
}

std::vector<std::string> FaultWords(const std::vector<Violation>& faults) {
  std::vector<std::string> words;
  for (const Violation& fault : faults) {
    words.push_back(fault.field.empty() ? fault.description : absl::StrCat("`", fault.field, "`: ", fault.description));
  }
  return words;
}

std::vector<std::string> PodBackend::Check(const Resources&, absl::string_view settings_json) const {
  std::vector<Violation> faults;
  (void)ReadSettings(config_.settings, settings_json, &faults);
  return FaultWords(faults);
}

std::vector<Violation> PodBackend::CheckStep(const StepNeeds& needs) const {
  std::vector<Violation> faults;
  if (needs.image.empty() && config_.image.empty() && !needs.builds_image) {
    faults.push_back({"image",
                      absl::StrCat("a step on orchestrator `", context_.orchestrator,
                                   "` runs in a container: give it an `image`, or the orchestrator one"),
                      "REQUIRED"});
  }
  return faults;
}

absl::StatusOr<Workspace> PodBackend::Prepare(const AttemptName&) {
  return RemoteWorkspace(kWork, LauncherCommand(config_), config_.endpoint);
}

void PodBackend::Submit(Unit unit) {
  for (AttemptWork& work : unit.attempts) {
    thread_.Post([this, work = std::make_shared<AttemptWork>(std::move(work))] { jobs_.Begin(*work); });
  }
}

void PodBackend::Cancel(absl::string_view key, CancelMode mode) {
  thread_.Post([this, key = std::string(key), mode] { jobs_.Cancel(key, mode == CancelMode::kForced); });
}

void PodBackend::Release(absl::string_view key) {
  thread_.Post([this, key = std::string(key)] { jobs_.Forget(key); });
}

bool PodBackend::FinishReleases(std::chrono::milliseconds limit) {
  return thread_.WaitUntil([this] { return jobs_.CleanedUp(); }, limit);
}

void PodBackend::Adopt(std::vector<KnownAttempt> attempts) {
  thread_.Post([this, attempts = std::move(attempts)] { jobs_.Adopt(attempts); });
}

int64_t PodBackend::LogBytes(const std::string& run_id) { return local::LogFolderBytes(jobs_.LogFolder(run_id)); }

absl::Status PodBackend::RemoveLogs(const std::string& run_id) {
  return local::RemoveLogFolder(jobs_.LogFolder(run_id));
}

absl::StatusOr<std::unique_ptr<LogReader>> PodBackend::OpenLog(const LogAddress& address, LogStreamName stream) {
  return local::OpenLogFile(jobs_.LogPrefix(address) + (stream == LogStreamName::kStdout ? ".out" : ".err"));
}

}  // namespace orch::kubernetes
