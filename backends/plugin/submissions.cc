// How jobs get to a plug-in: together, once, and found again when an answer was lost.
#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/plugin/backend_impl.h"
#include "backends/plugin/convert.h"
#include "server/base/fault.h"

namespace orch::plugin {
namespace {
constexpr int64_t kLongestLinger = 40;    // times the pause that the flavor wants
constexpr size_t kSubmitBytes = 8 << 20;  // of one Submit
}  // namespace

void PluginBackend::Begin(AttemptWork& work) {
  const std::string key = work.name.key;
  const auto [it, fresh] = jobs_.try_emplace(key);
  Job& job = it->second;
  if (!fresh) return Tell(key, job);
  job.name = work.name;
  job.grace_micros = work.grace_micros;
  job.log_limit_bytes = work.log_limit_bytes;
  if (!work.secrets.empty() &&
      !described_.capabilities().secrets()) {  // refused at submit; never given away all the same
    jobs_.erase(key);
    return listener_->Refused(key, false, Reason::kSubmitRefused, "its plug-in cannot keep secrets");
  }
  job.work = std::move(work);
  job.phase = Phase::kWaiting;
  waiting_.push_back(key);
  WaitForCompany();
}

void PluginBackend::Tell(const std::string& key, const Job& job) {
  if (job.accepted) listener_->Accepted(key, job.handle, "", "");
  if (job.end_told) listener_->Ended(key, *job.end);
}

void PluginBackend::WaitForCompany() {
  if (!session_->up() || !healthy_ || submitting_ || waiting_.empty()) return;
  const int64_t linger = std::clamp<int64_t>(session_->capabilities().submit_linger_micros(), 0, 1'000'000);
  if (company_since_ == 0) company_since_ = Mono();
  if (waiting_.size() >= Batch() || Mono() - company_since_ > kLongestLinger * linger) return SubmitWaiting();
  const size_t seen = ++arrivals_;
  loop_.After(linger, [this, seen] {
    if (seen == arrivals_) SubmitWaiting();
  });
}

void PluginBackend::SubmitWaiting() {
  if (!session_->up() || !healthy_ || submitting_ || waiting_.empty()) return;
  if (const int64_t left = submit_not_before_ - Mono(); left > 0) return Again(left, [this] { SubmitWaiting(); });
  v1::SubmitRequest request;
  *request.mutable_origin() = origin_;
  std::vector<std::string> keys;
  size_t bytes = 0;
  while (!waiting_.empty() && keys.size() < Batch() && bytes < kSubmitBytes) {
    const std::string key = waiting_.front();
    waiting_.pop_front();
    Job* job = Find(key);
    if (job == nullptr || job->phase != Phase::kWaiting) continue;
    std::error_code error;
    for (const char* folder : {"/scratch", "/output"}) {
      if (job->work.workspace.on_this_machine) std::filesystem::create_directories(Dir(key) + folder, error);
    }
    job->phase = Phase::kSubmitting;
    *request.add_jobs() = ToJob(job->work);
    bytes += request.jobs(request.jobs_size() - 1).ByteSizeLong();
    keys.push_back(key);
  }
  if (keys.empty()) return;
  submitting_ = true;
  company_since_ = 0;
  ORCH_FAULT("plugin.submit");
  session_->calls().Call<v1::SubmitRequest, v1::SubmitResponse>(
      &v1::BackendPlugin::Stub::AsyncSubmit, request, limits_.call_micros,
      [this, keys](const grpc::Status& status, v1::SubmitResponse& answer) {
        ORCH_FAULT("plugin.submitted");
        submitting_ = false;
        Submitted(keys, status, answer);
        if (session_->up()) SubmitWaiting();
      });
}

void PluginBackend::Submitted(const std::vector<std::string>& keys, const grpc::Status& status,
                              const v1::SubmitResponse& answer) {
  std::string why = "the plug-in's answer does not name it";
  if (!status.ok()) {
    why = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED
              ? absl::StrCat("the plug-in did not answer within ", limits_.call_micros / 1'000'000,
                             " s (limit plugin_call_seconds)")
              : absl::StrCat("Submit failed: ", Cut(status.error_message(), 500));
    submit_pause_ = std::clamp(2 * submit_pause_, kAgain / 5, kAgainLast);
    submit_not_before_ = Mono() + submit_pause_;
  } else {
    submit_pause_ = 0;
  }
  std::set<std::string> open(keys.begin(), keys.end());
  std::string lie;
  for (const v1::SubmitResult& result : answer.results()) {
    if (!status.ok() || open.erase(result.key()) == 0) continue;  // never asked, or said twice
    Job* job = Find(result.key());
    if (job == nullptr || job->phase != Phase::kSubmitting) continue;
    switch (result.outcome()) {
      case v1::SubmitResult::ACCEPTED: {
        v1::Observation observation = result.observation();
        observation.set_key(result.key());
        if (!result.has_observation()) observation.set_phase(v1::QUEUED);
        if (lie.empty()) lie = FaultOf(observation);
        if (lie.empty()) {
          Observed(observation);
        } else {
          Doubt(result.key(), lie);
        }
        break;
      }
      case v1::SubmitResult::REFUSED_FOR_NOW:
      case v1::SubmitResult::REFUSED: {
        const std::string key = result.key();
        jobs_.erase(key);
        listener_->Refused(key, result.outcome() == v1::SubmitResult::REFUSED_FOR_NOW, ToRefusal(result.reason()),
                           Cut(result.message(), 8 << 10));
        break;
      }
      case v1::SubmitResult::OUTCOME_UNSPECIFIED:
      case v1::SubmitResult::UNKNOWN:
        Doubt(result.key(), Cut(result.message(), 8 << 10));
        break;
      default:
        lie = absl::StrCat("answered Submit with outcome ", static_cast<int>(result.outcome()),
                           ", which its protocol does not have");
        Doubt(result.key(), lie);
    }
  }
  for (const std::string& key : open) Doubt(key, why);
  if (!lie.empty()) session_->Distrust(lie);
}

void PluginBackend::Doubt(const std::string& key, const std::string& why) {
  Job* job = Find(key);
  if (job == nullptr || job->phase != Phase::kSubmitting) return;
  job->phase = Phase::kDoubt;
  listener_->Unknown(key, why);
}

void PluginBackend::AdoptOne(const KnownAttempt& known) {
  const auto [it, fresh] = jobs_.try_emplace(known.name.key);
  Job& job = it->second;
  if (!fresh && job.phase != Phase::kDoubt) return Tell(known.name.key, job);
  if (fresh) {
    job.name = known.name;
    job.handle = known.handle;
    job.grace_micros = known.grace_micros;
    job.log_limit_bytes = known.log_limit_bytes;
    job.cancelled = known.stopping;
  }
  job.phase = Phase::kAsking;
}

void PluginBackend::FindJobs() {
  if (!session_->up() || finding_ || !adopted_) return;
  v1::FindRequest request;
  *request.mutable_origin() = origin_;
  std::vector<std::string> keys;
  for (auto& [key, job] : jobs_) {
    if (job.phase != Phase::kAsking && !job.ask) continue;
    v1::KnownJob* known = request.add_jobs();
    known->set_key(key);
    known->set_handle(job.handle);
    keys.push_back(key);
    if (keys.size() == kAskedTogether) break;
  }
  if (keys.empty()) return;
  finding_ = true;
  ORCH_FAULT("plugin.find");
  session_->calls().Call<v1::FindRequest, v1::FindResponse>(
      &v1::BackendPlugin::Stub::AsyncFind, request, limits_.call_micros,
      [this, keys](const grpc::Status& status, v1::FindResponse& answer) { Found(keys, status, answer); });
}

void PluginBackend::Found(const std::vector<std::string>& keys, const grpc::Status& status,
                          const v1::FindResponse& answer) {
  finding_ = false;
  std::set<std::string> open(keys.begin(), keys.end());
  for (const v1::FindResult& result : answer.results()) {
    if (!status.ok() || open.count(result.key()) == 0) continue;
    const std::string key = result.key();
    Job* job = Find(key);
    if (job == nullptr) continue;
    if (result.answer() == v1::FindResult::FOUND) {
      v1::Observation observation = result.observation();
      observation.set_key(key);
      if (const std::string lie = FaultOf(observation); !lie.empty()) return session_->Distrust(lie);
      open.erase(key);
      job->ask = false;
      Observed(observation);
    } else if (result.answer() == v1::FindResult::NOT_FOUND) {
      open.erase(key);
      copier_->Forget(key);
      jobs_.erase(key);
      listener_->NotFound(key);
    } else if (result.answer() != v1::FindResult::NOT_SURE && result.answer() != v1::FindResult::ANSWER_UNSPECIFIED) {
      return session_->Distrust(
          absl::StrCat("answered Find with ", static_cast<int>(result.answer()), ", which its protocol does not have"));
    }
  }
  if (open.empty()) {
    find_pause_ = 0;
    return FindJobs();  // more than were asked for together
  }
  find_pause_ = std::clamp(2 * find_pause_, kAgain / 4, kAgainLast);
  Again(find_pause_, [this] { FindJobs(); });
}

}  // namespace orch::plugin
