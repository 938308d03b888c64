// What all flavors whose steps are pods have in common.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/api/backend.h"
#include "backends/api/platform_thread.h"
#include "backends/api/registry.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/jobs.h"

namespace orch::kubernetes {

class PodBackend : public Backend {
 public:
  // `kind` outlives it.
  PodBackend(BackendContext context, Config config, const JobKind* kind);

  absl::Status Start(Listener* listener) override;
  void Stop() override { thread_.Stop(); }

  Capacity capacity() const override { return config_.capacity; }
  bool has_own_environment() const override { return true; }
  bool shares_files() const override { return false; }
  bool has_endpoint() const override { return !config_.endpoint.empty(); }

  std::vector<std::string> Check(const Resources& resources, absl::string_view settings_json) const override;
  std::vector<Violation> CheckStep(const StepNeeds& needs) const override;
  std::vector<std::string> Native(const AttemptWork& work) const override { return jobs_.Native(work); }
  bool tells_native() const override { return true; }
  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override;
  void Submit(Unit unit) override;
  void Cancel(absl::string_view key, CancelMode mode) override;
  void Release(absl::string_view key) override;
  bool FinishReleases(std::chrono::milliseconds limit) override;
  void Adopt(std::vector<KnownAttempt> attempts) override;
  int64_t LogBytes(const std::string& run_id) override;
  absl::Status RemoveLogs(const std::string& run_id) override;
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override;

 protected:
  const BackendContext context_;
  const Config config_;
  Jobs jobs_;  // the thread's
  PlatformThread<Jobs, Listener> thread_{&jobs_};
};

// Faults with a step's settings in words, with fields below them.
std::vector<std::string> FaultWords(const std::vector<Violation>& faults);

}  // namespace orch::kubernetes
