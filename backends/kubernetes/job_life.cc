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
    leave_by_ = 0;
  }
  if (phase_ != Phase::kEnding) phase_ = Phase::kLive;
  return move;
}

bool JobLife::Take(const PodView& pod, int64_t now) {
  now_ = std::max(now_, now);
  if (over() || !Mine(pod)) return false;
  if (pod_ && pod.uid != pod_->uid) {
    if (pod.created_wall < pod_->created_wall) return false;
    // The step has begun in the first one, and what would be begun in this one is turned away. A name is free again
    // once the pod that had it is gone; of one with another name its own events say whether it is.
    if (began_) {
      if (pod.name == pod_->name) replaced_ = pod_gone_ = true;
      return replaced_;
    }
    pod_gone_ = false;
    leave_by_ = 0;
    if (waits_for_ == Wait::kLeaving) waits_for_ = Wait::kNothing;
  }
  if (pod.deleting) {  // each deletion may shorten the grace
    const int64_t by = now_ + pod.grace_seconds * kSecond + kNodeSilence;
    const bool sooner = leave_by_ == 0 || (pod_ && pod.grace_seconds < pod_->grace_seconds && by < leave_by_);
    if (sooner) {
      leave_by_ = by;
      if (waits_for_ == Wait::kLeaving) waits_for_ = Wait::kNothing;
    }
  }
  pod_ = pod;
  return true;
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
                     const std::optional<std::vector<PodView>>& pods, int64_t now) {
  if (over()) return {};
  now_ = std::max(now_, now);
  const bool good = answer.code >= 200 && answer.code < 300;
  if ((!good && answer.code != 404) || (good && !job) || !pods) return To(Do::kAway);
  const bool listed =
      pod_ && std::any_of(pods->begin(), pods->end(), [&](const PodView& pod) { return pod.uid == pod_->uid; });
  // An event that came while it was asked and this answer contradict each other: nobody knows which is newer.
  if (heard_job_ && (good && job->ours) == job_gone_) return To(Do::kLook);
  if (heard_pod_ && pod_ && !pod_gone_ && !listed) return To(Do::kLook);
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
  } else if (uid_.empty() && !pod_ && pods->empty()) {  // whether there ever was one nobody knows
    phase_ = cancelled_ ? Phase::kEnded : Phase::kAdopted;
    return To(cancelled_ ? Do::kEndUnstarted : Do::kUnknown);
  } else {
    job_gone_ = true;
    if (phase_ != Phase::kEnding) phase_ = Phase::kLive;
  }
  if (pod_ && !listed) pod_gone_ = true;
  for (const PodView& pod : *pods) {
    const bool same = pod_ && (pod.uid == pod_->uid || (pod.name == pod_->name && !heard_pod_));
    if (!pod_ || same || pod.created_wall > pod_->created_wall) (void)Take(pod, now);
  }
  if (pod_ && pod_->deleting && !pod_gone_ && now >= leave_by_) silent_ = true;
  return Next(std::move(move), /*looked=*/true);
}

Move JobLife::SeenJob(const JobView& job) {
  if (over() || !job.ours) return {};
  heard_job_ = true;
  return Next(Accept(job));
}

Move JobLife::SeenPod(const PodView& pod, int64_t now) {
  if (!Take(pod, now)) return {};
  heard_pod_ = true;
  return Next();
}

Move JobLife::GoneJob(const JobView& job) {
  if (over() || (job_ && job.uid != job_->uid)) return {};
  heard_job_ = true;
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
  if (std::exchange(waits_for_, Wait::kNothing) == Wait::kNothing || phase_ != Phase::kLive) return {};
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
  const bool judged = looked || replaced_ || cancelled_ || job_gone_ || (job_ && (job_->failed || job_->complete));
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
  Wait wait = Wait::kNothing;
  if (podless || awaits || left) {
    wait = Wait::kOtherStream;
  } else if (pod_ && pod_->deleting) {
    wait = Wait::kLeaving;
  }
  if (wait != Wait::kNothing && wait != waits_for_) {
    waits_for_ = wait;
    move.what = Do::kLater;
    move.wait = wait == Wait::kLeaving ? std::max<int64_t>(leave_by_ - now_, 0) : kOtherStream;
  } else if (began_) {
    move.what = Do::kFollow;
  }
  return move;
}

}  // namespace orch::kubernetes
