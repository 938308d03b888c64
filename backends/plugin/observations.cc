// What a plug-in says of its jobs, until they are gone.
#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/plugin/backend_impl.h"
#include "backends/plugin/convert.h"
#include "server/base/fault.h"
#include "server/base/log.h"

namespace orch::plugin {
namespace {
constexpr int64_t kUsualPoll = 1'000'000;
}  // namespace

void PluginBackend::WatchJobs() {
  v1::WatchRequest request;
  *request.mutable_origin() = origin_;
  struct Rate {
    int64_t second = 0;
    int64_t count = 0;
    bool first = true;
  };
  auto rate = std::make_shared<Rate>();
  const int64_t asked = Mono();
  session_->calls().Stream<v1::WatchRequest, v1::WatchResponse>(
      &v1::BackendPlugin::Stub::AsyncWatch, request, /*micros=*/0,
      [this, rate, asked](v1::WatchResponse& answer) -> int64_t {
        if (!Take(answer.observations())) return -1;
        if (std::exchange(rate->first, false)) Compare(answer.observations(), asked);
        const int64_t now = Mono();
        if (now - rate->second >= 1'000'000) {
          rate->second = now;
          rate->count = 0;
        }
        // One that floods is read no faster than this; it waits, and nobody else does.
        return ++rate->count <= limits_.messages_per_second ? 0 : rate->second + 1'000'000 - now;
      },
      [this](const grpc::Status& status) {
        if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
          return session_->Distrust("says that it `watches`, and does not serve Watch");
        }
        if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
          return session_->Distrust(absl::StrCat("sent more than ", limits_.message_bytes,
                                                 " bytes in one message (limit plugin_message_bytes)"));
        }
        Again(kAgain, [this] { WatchJobs(); });
      });
}

void PluginBackend::Poll() {
  const int64_t said = session_->capabilities().poll_micros();
  const int64_t pause = said <= 0 ? kUsualPoll : std::clamp<int64_t>(said, 100'000, 300'000'000);
  if (polled_ && jobs_.empty()) return Again(pause, [this] { Poll(); });  // nobody waits for anything
  v1::ObserveRequest request;
  *request.mutable_origin() = origin_;
  const int64_t asked = Mono();
  session_->calls().Call<v1::ObserveRequest, v1::ObserveResponse>(
      &v1::BackendPlugin::Stub::AsyncObserve, request, limits_.call_micros,
      [this, asked, pause](const grpc::Status& status, v1::ObserveResponse& answer) {
        if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
          return session_->Distrust(absl::StrCat("sent more than ", limits_.message_bytes,
                                                 " bytes in one message (limit plugin_message_bytes)"));
        }
        if (status.ok()) {
          if (!Take(answer.observations())) return;
          Compare(answer.observations(), asked);
          polled_ = adopted_;
        }
        Again(pause, [this] { Poll(); });
      });
}

bool PluginBackend::Take(const google::protobuf::RepeatedPtrField<v1::Observation>& observations) {
  for (const v1::Observation& observation : observations) {
    if (const std::string lie = FaultOf(observation); !lie.empty()) {
      session_->Distrust(lie);
      return false;
    }
    Observed(observation);
  }
  return true;
}

void PluginBackend::Compare(const google::protobuf::RepeatedPtrField<v1::Observation>& all, int64_t asked) {
  if (!adopted_) return;
  std::set<std::string> shown;
  for (const v1::Observation& observation : all) {
    shown.insert(observation.key());
    if (jobs_.count(observation.key()) == 0) releases_.try_emplace(observation.key(), observation.handle());
  }
  if (!std::exchange(swept_, true)) {  // folders of those that it has forgotten, and a daemon that was killed has not
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/attempts", error)) {
      const std::string key = entry.path().filename();
      if (jobs_.count(key) == 0) releases_.try_emplace(key, "");
    }
  }
  for (auto& [key, job] : jobs_) {
    const bool there = job.phase == Phase::kQueued || job.phase == Phase::kRunning;
    if (there && job.accepted_at < asked && shown.count(key) == 0) job.ask = true;
  }
  FindJobs();
  FlushReleases();
}

void PluginBackend::Observed(const v1::Observation& o) {
  const std::string& key = o.key();
  Job* job = Find(key);
  if (job == nullptr || job->phase == Phase::kEnded) return;
  if (job->phase == Phase::kWaiting) return;  // not submitted by us: Submit will say it
  if (job->phase == Phase::kSubmitting || job->phase == Phase::kDoubt || job->phase == Phase::kAsking) {
    job->phase = Phase::kQueued;
  }
  if (!std::exchange(job->accepted, true)) {
    job->accepted_at = Mono();
    if (!o.handle().empty()) job->handle = o.handle();
    listener_->Accepted(key, job->handle, Cut(o.external_id(), 1024), Cut(o.url(), 4096));
    if (job->log_limit_bytes == 0) job->log_limit_bytes = job->work.log_limit_bytes;
    job->work = AttemptWork();
  }
  if (o.phase() == v1::RUNNING || (o.phase() == v1::ENDED && !o.end().never_started())) {
    copier_->Follow(key, job->handle, LogPrefix(job->name), job->log_limit_bytes);
  }
  if (o.phase() == v1::RUNNING && job->phase == Phase::kQueued) {
    job->phase = Phase::kRunning;
    job->began = true;
    listener_->Started(key, Cut(o.external_id(), 1024), Cut(o.node(), 1024), std::max<int64_t>(0, o.started_micros()));
  }
  if (o.phase() == v1::LOST) {
    job->phase = Phase::kEnded;
    copier_->Forget(key);
    return listener_->Lost(key, o.message().empty() ? "the plug-in cannot say how it ended" : Cut(o.message(), 8192));
  }
  if (o.phase() == v1::ENDED) {
    job->phase = Phase::kEnded;
    job->end = ToEnd(o.end());
    if (!job->end->never_started && !std::exchange(job->began, true)) {  // it was too quick to be seen running
      const int64_t started = std::max(job->end->started_wall, o.started_micros());
      listener_->Started(key, Cut(o.external_id(), 1024), Cut(o.node(), 1024), std::max<int64_t>(0, started));
    }
    if (job->end->never_started) return ReportEnd(key);
    return copier_->Finish(key);  // and then ReportEnd
  }
  if (job->cancelled) SendCancel(key);
}

void PluginBackend::ReportEnd(const std::string& key) {
  Job* job = Find(key);
  if (job == nullptr || !job->end.has_value() || std::exchange(job->end_told, true)) return;
  AttemptEnd& end = *job->end;
  end.stdout_bytes = copier_->bytes(key, false);
  end.stderr_bytes = copier_->bytes(key, true);
  end.output_dir = Dir(key) + "/output";
  end.scratch_dir = Dir(key) + "/scratch";
  if (job->over_limit) {
    end.reason = Reason::kLogLimit;
    end.message = absl::StrCat("it wrote ", end.stdout_bytes + end.stderr_bytes, " bytes of log (limit log_bytes)");
  }
  if (end.reason == Reason::kLost) return listener_->Lost(key, end.message);
  listener_->Ended(key, end);
}

void PluginBackend::OverLimit(const std::string& key) {
  Job* job = Find(key);
  if (job == nullptr) return;
  job->over_limit = true;
  job->forced = true;
  SendCancel(key);
}

void PluginBackend::StopJob(const std::string& key, bool forced) {
  Job* job = Find(key);
  if (job == nullptr || job->phase == Phase::kEnded) return;
  job->cancelled = true;
  job->forced = job->forced || forced;
  if (job->phase == Phase::kWaiting) {
    job->phase = Phase::kEnded;
    AttemptEnd end;
    end.reason = Reason::kLost;
    end.message = "it was stopped before it was submitted";
    end.never_started = true;
    end.stopped = true;
    job->end = std::move(end);
    job->end_told = true;
    return listener_->Ended(key, *job->end);
  }
  if (job->phase == Phase::kQueued || job->phase == Phase::kRunning) SendCancel(key);
}

void PluginBackend::SendCancel(const std::string& key) {
  Job& job = jobs_.at(key);
  const int level = job.forced ? 2 : 1;
  if (!session_->up() || job.cancel_sent >= level) return;
  job.cancel_sent = level;
  v1::CancelRequest request;
  *request.mutable_origin() = origin_;
  request.set_key(key);
  request.set_handle(job.handle);
  request.set_force(job.forced);
  request.set_grace_micros(job.grace_micros);
  session_->calls().Call<v1::CancelRequest, v1::CancelResponse>(
      &v1::BackendPlugin::Stub::AsyncCancel, request, limits_.call_micros,
      [this, key](const grpc::Status& status, v1::CancelResponse&) {
        if (status.ok()) return;
        Again(kAgain, [this, key] {
          Job* j = Find(key);
          if (j == nullptr || j->phase == Phase::kEnded) return;
          j->cancel_sent = 0;
          SendCancel(key);
        });
      });
}

void PluginBackend::Forget(const std::string& key) {
  copier_->Forget(key);
  const auto found = jobs_.find(key);
  std::string handle;
  if (found != jobs_.end()) {
    handle = found->second.handle;
    jobs_.erase(found);
  }
  releases_[key] = handle;
  FlushReleases();
}

void PluginBackend::FlushReleases() {
  if (!session_->up() || releasing_ || releases_.empty()) return;
  v1::ReleaseRequest request;
  *request.mutable_origin() = origin_;
  std::vector<std::string> keys;
  for (const auto& [key, handle] : releases_) {
    v1::KnownJob* known = request.add_jobs();
    known->set_key(key);
    known->set_handle(handle);
    keys.push_back(key);
    if (keys.size() == kAskedTogether) break;
  }
  releasing_ = true;
  ORCH_FAULT("plugin.release");
  session_->calls().Call<v1::ReleaseRequest, v1::ReleaseResponse>(
      &v1::BackendPlugin::Stub::AsyncRelease, request, limits_.call_micros,
      [this, keys](const grpc::Status& status, v1::ReleaseResponse&) {
        releasing_ = false;
        if (!status.ok()) return Again(kAgain, [this] { FlushReleases(); });
        for (const std::string& key : keys) {
          releases_.erase(key);
          std::error_code error;
          if (jobs_.count(key) == 0) std::filesystem::remove_all(Dir(key), error);
        }
        FlushReleases();
      });
}

}  // namespace orch::plugin
