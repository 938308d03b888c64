#include "tests/sim/hooks.h"

#include <algorithm>
#include <set>
#include <utility>

namespace orch::sim {

class HookBackend : public Backend {
 public:
  explicit HookBackend(HookPlatform* platform) : platform_(platform) {}
  absl::Status Start(Listener* listener) override {
    platform_->listener_ = listener;
    platform_->adopted_ = false;
    return absl::OkStatus();
  }
  void Stop() override {}
  Capacity capacity() const override { return {}; }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName&) override { return Workspace(); }
  void Submit(Unit unit) override { platform_->Submit(unit.attempts.at(0)); }
  void Cancel(absl::string_view key, CancelMode) override { platform_->Cancel(key); }
  void Release(absl::string_view key) override { platform_->Release(key); }
  void Adopt(std::vector<KnownAttempt> attempts) override { platform_->Adopt(attempts); }
  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("no logs here");
  }

 private:
  HookPlatform* const platform_;
};

std::unique_ptr<Backend> HookPlatform::Connect() { return std::make_unique<HookBackend>(this); }

void HookPlatform::Say(const Job& job) {
  if (listener_ == nullptr) return;
  listener_->Started(job.key, "pid", "", 0);
  if (!job.ended) return;
  if (job.end.reason == Reason::kLost) return listener_->Lost(job.key, "lost");
  listener_->Ended(job.key, job.end);
}

void HookPlatform::Submit(const AttemptWork& work) {
  if (!adopted_) fate_->Break("a hook is begun before it was asked which there are");
  const auto [known, fresh] = by_key_.emplace(work.name.key, static_cast<uint32_t>(jobs_.size()));
  if (!fresh) return Say(jobs_[known->second]);  // never twice
  for (const Job& other : jobs_) {
    if (other.id == work.name.log && !other.ended) return fate_->Break("hook ", other.id, " runs twice at once");
  }
  Job& job = jobs_.emplace_back();
  job.key = work.name.key;
  job.id = work.name.log;
  const auto open = std::count_if(jobs_.begin(), jobs_.end(), [](const Job& j) { return !j.ended; });
  if (open > at_once_) fate_->Break(open, " hooks run at once, ", at_once_, " may");
  const int64_t takes = fate_->Happens(Fault::kLongJob) ? 900 * kSecond : fate_->dice.Delay(2 * kSecond);
  fate_->Later(takes, What::kHookEnd, known->second, 0);
  Say(job);
}

void HookPlatform::End(uint32_t number, bool stopped) {
  Job& job = jobs_[number];
  if (job.ended) return;
  job.ended = true;
  if (stopped) {
    job.end.stopped = true;
    job.end.reason = Reason::kSignaled;
  } else if (fate_->Happens(Fault::kJobLost)) {
    job.end.reason = Reason::kLost;
  } else if (fate_->Happens(Fault::kJobFails)) {
    job.end.reason = Reason::kExitCode;
    job.end.exit_code = 1;
  } else {
    job.end.exit_code = 0;
  }
  Say(job);
}

void HookPlatform::Cancel(absl::string_view key) {
  const auto found = by_key_.find(std::string(key));
  if (found == by_key_.end() || std::exchange(jobs_[found->second].stopping, true)) return;
  fate_->Later(fate_->dice.Delay(2 * kSecond), What::kHookEnd, found->second, 1);
}

void HookPlatform::Release(absl::string_view key) {
  const auto found = by_key_.find(std::string(key));
  if (found == by_key_.end()) return;
  Job& job = jobs_[found->second];
  job.released = true;
  if (!job.ended) fate_->Break("hook ", job.id, " is released while it runs");
}

void HookPlatform::Adopt(const std::vector<KnownAttempt>& attempts) {
  adopted_ = true;
  std::set<std::string> known;
  for (const KnownAttempt& attempt : attempts) {
    known.insert(attempt.name.key);
    const auto found = by_key_.find(attempt.name.key);
    if (found == by_key_.end()) {
      listener_->NotFound(attempt.name.key);
      continue;
    }
    Job& job = jobs_[found->second];
    if (!job.ended && fate_->Happens(Fault::kVanish)) {
      job.ended = true;
      job.end.reason = Reason::kLost;
    }
    Say(job);
  }
  for (Job& job : jobs_) {
    if (job.released || known.count(job.key) > 0) continue;
    if (!job.ended) return fate_->Break("hook ", job.id, " runs and nobody knows it");
    Say(job);
  }
}

}  // namespace orch::sim
