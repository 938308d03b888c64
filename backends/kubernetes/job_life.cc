#include "backends/kubernetes/job_life.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orch::kubernetes {
namespace {

using Do = Move::Do;

constexpr int64_t kSecond = 1'000'000;
// Jobs and pods are told of by two streams, neither of which waits for the other.
constexpr int64_t kOtherStream = 2 * kSecond;

Move To(Do what) {
  Move move;
  move.what = what;
  return move;
}

}  // namespace

Move JobLife::Ready() {
  if (cancelled_) return Cancel();
  phase_ = Phase::kMaking;
  return To(Do::kMake);
}

Move JobLife::Accept(const JobView& job) {
  Move move;
  move.accepted = uid_.empty();
  uid_ = job.uid;
  job_ = job;
  if (pod_ && !Mine(*pod_)) {
    pod_.reset();
    pod_gone_ = false;
  }
  if (phase_ != Phase::kEnding) phase_ = Phase::kLive;
  return move;
}

Move JobLife::Made(const CallAnswer& answer, const JobView& job) {
  if (phase_ != Phase::kMaking) return {};  // it has been told of already
  if (answer.code >= 200 && answer.code < 300) return Next(Accept(job));
  if (answer.exists) {  // ours, of an answer that was lost, unless somebody else took the name
    phase_ = Phase::kLooking;
    return To(Do::kLook);
  }
  if ((answer.code == 0 && answer.unheard) || answer.code == 401) {
    phase_ = Phase::kWaiting;
    return To(Do::kAway);
  }
  if (!answer.for_now && (answer.code == 0 || answer.code >= 500)) {
    phase_ = Phase::kAdopted;
    return To(Do::kUnknown);
  }
  Move move = To(Do::kRefuse);
  move.transient = answer.for_now;
  move.message = answer.words;
  return move;
}

Move JobLife::Looked(const CallAnswer& answer, const std::optional<JobView>& job,
                     const std::optional<std::vector<PodView>>& pods) {
  if (over()) return {};
  const bool good = answer.code >= 200 && answer.code < 300;
  if ((!good && answer.code != 404) || (good && !job) || !pods) return To(Do::kAway);
  Move move;
  if (good && !job->ours) {
    if (uid_.empty() && pods->empty()) {
      Move refuse = To(phase_ == Phase::kAdopted ? Do::kNotFound : Do::kRefuse);
      refuse.message = absl::StrCat("somebody else's Job is called ", job->name, "; it is left alone");
      return refuse;
    }
    job_gone_ = true;
  } else if (good) {
    move = Accept(*job);
    job_gone_ = false;
  } else if (phase_ == Phase::kAdopted && pods->empty()) {
    return To(Do::kNotFound);
  } else {
    job_gone_ = true;
    if (phase_ != Phase::kEnding) phase_ = Phase::kLive;
  }
  for (const PodView& pod : *pods) {
    if (!Mine(pod)) continue;
    if (!pod_ || pod.uid == pod_->uid || pod.created_wall > pod_->created_wall) pod_ = pod;
  }
  if (pod_ && std::none_of(pods->begin(), pods->end(), [&](const PodView& pod) { return pod.uid == pod_->uid; })) {
    pod_gone_ = true;
  }
  if (std::exchange(due_, false) && deleted_ && pod_ && pod_->deleting && !pod_gone_) silent_ = true;
  return Next(std::move(move), /*looked=*/true);
}

Move JobLife::SeenJob(const JobView& job) {
  if (over() || !job.ours) return {};
  return Next(Accept(job));
}

Move JobLife::SeenPod(const PodView& pod) {
  if (over() || !Mine(pod)) return {};
  const bool other = pod_ && pod.uid != pod_->uid;
  if (other && pod.created_wall < pod_->created_wall) return {};
  if (other) pod_gone_ = deleted_ = false;
  pod_ = pod;
  return Next();
}

Move JobLife::GoneJob(const JobView& job) {
  if (over() || (job_ && job.uid != job_->uid)) return {};
  job_gone_ = true;
  return Next();
}

Move JobLife::GonePod(const PodView& pod) {
  if (over() || !Mine(pod) || (pod_ && pod.uid != pod_->uid)) return {};
  pod_ = pod;
  pod_gone_ = true;
  return Next();
}

Move JobLife::Missing() {
  if (over() || phase_ == Phase::kWaiting) return {};
  if (phase_ == Phase::kMaking) phase_ = Phase::kLooking;
  return To(Do::kLook);
}

Move JobLife::IsDue() {
  if (!std::exchange(waits_, false) || phase_ != Phase::kLive) return {};
  due_ = true;
  return To(Do::kLook);
}

Move JobLife::Cancel() {
  cancelled_ = true;
  if (phase_ == Phase::kWaiting) {
    phase_ = Phase::kEnded;
    return To(Do::kEndUnstarted);
  }
  return phase_ == Phase::kLive ? Next() : Move();
}

Move JobLife::GiveUp() {
  if (phase_ != Phase::kLive || began_) return {};
  phase_ = Phase::kEnding;
  return To(Do::kTell);
}

// From all that is known.
Move JobLife::Next(Move move, bool looked) {
  if (phase_ != Phase::kLive) return move;
  if (pod_ && pod_->began() && !std::exchange(began_, true)) move.started = true;
  const bool over = pod_ && (pod_->over() || pod_gone_ || silent_);
  const bool podless = !pod_ && (job_gone_ || (job_ && (job_->failed || job_->complete)));
  const bool taken = pod_ && (pod_->deleting || pod_gone_);
  const bool judged = looked || cancelled_ || job_gone_ || (job_ && (job_->failed || job_->complete));
  const bool awaits = verdicts_ && over && taken && !judged;
  if ((over && !awaits) || (podless && looked)) {
    phase_ = Phase::kEnding;
    move.what = began_ ? Do::kReadLog : Do::kTell;
    return move;
  }
  move.stop = cancelled_;
  // Who deletes pods after their Job may be away.
  const bool left = cancelled_ && job_gone_ && pod_ && !pod_->deleting;
  move.stop_pod = left && looked;
  const bool deleted = pod_ && pod_->deleting && !std::exchange(deleted_, true);
  if (deleted || ((podless || awaits || left) && !waits_)) {
    waits_ = true;
    move.what = Do::kLater;
    move.wait = deleted && !awaits ? pod_->grace_seconds * kSecond + kNodeSilence : kOtherStream;
  } else if (began_) {
    move.what = Do::kFollow;
  }
  return move;
}

}  // namespace orch::kubernetes
