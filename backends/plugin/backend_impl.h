// The backend of every plug-in's flavor: what the daemon asks of it, and the jobs it knows.
//
// In three files: what the daemon asks and what becomes of the plug-in (plugin_backend.cc), how jobs get to it and are
// found there (submissions.cc), and what it says of them until they are gone (observations.cc).
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/local/log_file.h"
#include "backends/plugin/call_loop.h"
#include "backends/plugin/log_copier.h"
#include "backends/plugin/session.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace orch::plugin {

inline constexpr int64_t kAgain = 1'000'000;       // after a call that failed
inline constexpr int64_t kAgainLast = 10'000'000;  // the longest such pause
inline constexpr int kUsualBatch = 100;
inline constexpr size_t kAskedTogether = 1'000;

inline int64_t Mono() { return Clock::Real().Now().mono; }

class PluginBackend : public Backend {
 public:
  PluginBackend(BackendContext context, std::string flavor, const PluginSource& source,
                v1::DescribeResponse description, Limits limits);
  ~PluginBackend() override { Stop(); }

  absl::Status Start(Listener* listener) override;
  void Stop() override;

  Capacity capacity() const override {
    MutexLock lock(&mutex_);
    return capacity_;
  }
  bool has_own_environment() const override { return described_.capabilities().own_environment(); }
  ProbeReport Probe() override;
  bool shares_files() const override {
    MutexLock lock(&mutex_);
    return !remote_.has_value();
  }
  bool has_endpoint() const override {
    MutexLock lock(&mutex_);
    return remote_.has_value() && !remote_->endpoint().empty();
  }

  std::vector<std::string> Check(const Resources& resources, absl::string_view settings_json) const override;
  std::vector<Violation> CheckStep(const StepNeeds& needs) const override;
  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override;
  void Submit(Unit unit) override;
  void Cancel(absl::string_view key, CancelMode mode) override;
  void Release(absl::string_view key) override;
  bool FinishReleases(std::chrono::milliseconds limit) override;
  void Adopt(std::vector<KnownAttempt> attempts) override;
  int64_t LogBytes(const std::string& run_id) override { return local::LogFolderBytes(LogFolder(run_id)); }
  absl::Status RemoveLogs(const std::string& run_id) override { return local::RemoveLogFolder(LogFolder(run_id)); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override;

 private:
  enum class Phase {
    kWaiting,     // for a plug-in that can be used, and for company
    kSubmitting,  // its Submit is under way
    kDoubt,       // nobody knows whether it was submitted; the daemon has been told
    kAsking,      // Find says where it is
    kQueued,
    kRunning,
    kEnded,
  };
  struct Job {
    Phase phase = Phase::kWaiting;
    AttemptName name;
    AttemptWork work;  // until it is accepted
    std::string handle;
    int64_t grace_micros = 10'000'000;
    int64_t log_limit_bytes = 0;
    int64_t accepted_at = 0;  // mono
    bool accepted = false;    // reported
    bool began = false;       // reported
    bool ask = false;         // it is missing where it should be seen
    bool cancelled = false;
    bool forced = false;
    int cancel_sent = 0;  // 1 gracefully, 2 by force
    bool over_limit = false;
    std::optional<AttemptEnd> end;
    bool end_told = false;
  };
  std::string Dir(const std::string& key) const { return absl::StrCat(folder_, "/attempts/", key); }
  std::string LogFolder(const std::string& run_id) const { return absl::StrCat(context_.data_dir, "/logs/", run_id); }
  // Of an AttemptName or a LogAddress.
  template <typename Name>
  std::string LogPrefix(const Name& name) const {
    return absl::StrCat(LogFolder(name.run_id), "/",
                        name.log.empty() ? absl::StrCat(name.step_index, ".", name.attempt) : name.log);
  }
  Job* Find(const std::string& key) {
    const auto found = jobs_.find(key);
    return found == jobs_.end() ? nullptr : &found->second;
  }
  // `task` if the connection is still the same.
  void Again(int64_t micros, CallLoop::Task task);

  // --- the plug-in ---

  void Up(const v1::ConfigureResponse& configured);
  void Down(const absl::Status& why);
  void Probed(bool healthy, const std::string& message);
  void SetHealth(bool healthy, const std::string& message);

  // What it said when it was configured counts before it answers again: steps are granted by what it offers as soon as
  // the daemon is back, and how those of before are judged depends on where they work.
  std::string ConfiguredFile() const { return folder_ + "/configured"; }
  void Apply(const v1::ConfigureResponse& configured) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KeepConfigured(const v1::ConfigureResponse& configured);
  void ReadConfigured();

  // Validate, from a handler's thread; a plug-in that is away or slow objects to nothing, and may refuse later.
  std::vector<std::string> Ask(const Resources& resources, absl::string_view settings_json);

  // --- submitting ---

  void Begin(AttemptWork& work);

  // Says again what is known.
  void Tell(const std::string& key, const Job& job);

  size_t Batch() const {
    const int32_t said = session_->capabilities().submit_batch();
    return static_cast<size_t>(said <= 0 ? kUsualBatch : std::min(said, 10'000));
  }

  // A wide fan-out comes in many pieces: it is worth to wait a little, so that it is one submission.
  void WaitForCompany();
  void SubmitWaiting();
  void Submitted(const std::vector<std::string>& keys, const grpc::Status& status, const v1::SubmitResponse& answer);

  // The daemon asks where it is.
  void Doubt(const std::string& key, const std::string& why);

  // --- finding ---

  void AdoptOne(const KnownAttempt& known);
  void FindJobs();
  void Found(const std::vector<std::string>& keys, const grpc::Status& status, const v1::FindResponse& answer);

  // --- observing ---

  void WatchJobs();
  void Poll();
  bool Take(const google::protobuf::RepeatedPtrField<v1::Observation>& observations);

  // What the plug-in has of ours and nobody waits for goes; what it should have and does not show is asked for.
  void Compare(const google::protobuf::RepeatedPtrField<v1::Observation>& all, int64_t asked);

  // It is well formed.
  void Observed(const v1::Observation& o);
  void ReportEnd(const std::string& key);
  void OverLimit(const std::string& key);

  // --- stopping and cleaning up ---

  void StopJob(const std::string& key, bool forced);
  void SendCancel(const std::string& key);
  void Forget(const std::string& key);
  void FlushReleases();

  const BackendContext context_;
  const std::string flavor_;
  const v1::DescribeResponse described_;
  const Limits limits_;
  const std::string folder_;
  v1::Origin origin_;
  Listener* listener_ = nullptr;

  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<absl::Status> first_ ABSL_GUARDED_BY(mutex_);  // what came of the first try
  Capacity capacity_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::RemoteWorkspace> remote_ ABSL_GUARDED_BY(mutex_);
  bool up_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::vector<std::string>> validated_ ABSL_GUARDED_BY(mutex_);

  CallLoop loop_;
  // Of its thread.
  std::unique_ptr<Session> session_;
  std::unique_ptr<LogCopier> copier_;
  std::unordered_map<std::string, Job> jobs_;    // by key
  std::deque<std::string> waiting_;              // keys, to be submitted
  std::map<std::string, std::string> releases_;  // key → handle
  uint64_t connection_ = 0;                      // counts ups and downs
  size_t arrivals_ = 0;
  int64_t company_since_ = 0;      // mono; 0: none waits
  int64_t submit_not_before_ = 0;  // mono
  int64_t submit_pause_ = 0;
  int64_t find_pause_ = 0;
  bool submitting_ = false;
  bool finding_ = false;
  bool releasing_ = false;
  bool polled_ = false;  // all were seen once on this connection
  bool adopted_ = false;
  bool swept_ = false;
  bool healthy_ = false;
  bool health_told_ = false;
  std::string health_message_;
};

}  // namespace orch::plugin
