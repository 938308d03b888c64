// Where the Job of an attempt is, and what is done next, from what the cluster answers and tells by itself: pure.
// Whatever is lost, late, told twice or asked for by somebody else, an attempt has one Job.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/kubernetes/views.h"
#include "server/model/states.h"

namespace orch::kubernetes {

// A node that is well has ended a pod so long after the grace of its deletion, in microseconds.
inline constexpr int64_t kNodeSilence = 30'000'000;

enum class Phase {
  kAdopted,  // on record; where it is has to be seen
  kWaiting,  // for a cluster that cannot be reached
  kMaking,   // it is asked for
  kLooking,  // there is one of its name
  kLive,     // it is there
  kEnding,   // its step is over, and its log is not read to its end yet
  kEnded,
};

struct Move {
  enum class Do {
    kNothing,
    kMake,
    kLook,          // at the Job and its pods
    kLater,         // IsDue, in `wait`, and not when it was said before
    kFollow,        // it runs: its log is followed
    kReadLog,       // it is over: the rest of its log is read, then it is told how it ended
    kTell,          // it is over, and there is no log
    kEndUnstarted,  // it was cancelled in time
    kRefuse,        // nothing was made, or nothing of ours
    kNotFound,      // nothing is there that was on record
    kUnknown,       // nobody knows whether it was made
    kAway,          // there was no answer: all is looked up when the cluster is back
  };
  Do what = Do::kNothing;
  bool accepted = false;  // it has a Job now, which is to be told first
  bool started = false;   // so is that it runs, or did
  bool stop = false;      // it is to be stopped, if it is not yet
  bool stop_pod = false;  // its Job is gone, and has not taken its pod along
  bool transient = false;
  int64_t wait = 0;  // microseconds
  Reason reason = Reason::kSubmitRefused;
  std::string message;  // of a refusal
};

// What became of a call.
struct CallAnswer {
  int code = 0;          // of HTTP; 0: there was none
  bool unheard = false;  // of none: the server has certainly not heard of it
  bool exists = false;   // something of that name is there
  bool for_now = false;  // it may be accepted later: a quota, too many requests, a webhook that is away
  std::string words;     // the server's
};

class JobLife {
 public:
  // `adopted`: of an attempt that is on record, perhaps being stopped (`cancelled`).
  // `verdicts`: who makes the pods may take them away, and says why in the object that they were made for.
  JobLife(bool adopted, bool cancelled, bool verdicts = false)
      : phase_(adopted ? Phase::kAdopted : Phase::kWaiting), cancelled_(cancelled), verdicts_(verdicts) {}

  Phase phase() const { return phase_; }
  bool cancelled() const { return cancelled_; }
  bool began() const { return began_; }
  bool job_gone() const { return job_gone_; }
  bool pod_gone() const { return pod_gone_; }
  bool silent() const { return silent_; }
  // Its pod was taken away, and another one of its name has been made, which is not the attempt's.
  bool replaced() const { return replaced_; }
  bool over() const { return phase_ == Phase::kEnding || phase_ == Phase::kEnded; }
  bool known() const { return !uid_.empty(); }  // it has, or had, a Job
  const std::string& uid() const { return uid_; }
  const std::optional<JobView>& job() const { return job_; }
  const std::optional<PodView>& pod() const { return pod_; }

  // The cluster can be asked.
  Move Ready();
  Move Made(const CallAnswer& answer, const JobView& job);
  // What Looked will be told is being asked for from now on: what comes in between may be newer.
  void Looks() { heard_job_ = heard_pod_ = false; }
  // `pods`: nothing if they could not be had. `now`: mono, as of SeenPod.
  Move Looked(const CallAnswer& answer, const std::optional<JobView>& job,
              const std::optional<std::vector<PodView>>& pods, int64_t now);
  Move SeenJob(const JobView& job);
  Move SeenPod(const PodView& pod, int64_t now);
  Move GoneJob(const JobView& job);
  Move GonePod(const PodView& pod);
  // All there is was listed, and this one's Job, or the pod that was known, was not among them; or nobody looks any
  // more, since the connection was made anew.
  Move Missing();
  // A while after kLater.
  Move IsDue();
  Move Cancel();
  // It waits for what will not come.
  Move GiveUp();
  // What kLater has asked for does not come any more: the connection was made anew.
  void Anew() { waits_for_ = Wait::kNothing; }
  // Its end has been told.
  void Over() { phase_ = Phase::kEnded; }

 private:
  enum class Wait {
    kNothing,
    kOtherStream,  // which may tell what this one has not
    kLeaving,      // its pod has to be gone then
  };

  // `looked`: what is known has just been asked for, and is all there is.
  Move Next(Move move = {}, bool looked = false);
  Move Accept(const JobView& job);
  // The pod's newest state; false: it is none of this attempt's.
  bool Take(const PodView& pod, int64_t now);
  // Not of an earlier Job of the same name, which was taken back.
  bool Mine(const PodView& pod) const { return uid_.empty() || pod.owner.empty() || pod.owner == uid_; }

  Phase phase_;
  std::string uid_;  // the Job's
  std::optional<JobView> job_;
  std::optional<PodView> pod_;
  bool cancelled_;
  bool verdicts_;
  bool began_ = false;
  bool job_gone_ = false;
  bool pod_gone_ = false;
  bool replaced_ = false;
  Wait waits_for_ = Wait::kNothing;  // IsDue
  int64_t leave_by_ = 0;             // mono, by when a deletion of the pod has come to pass; 0: there is none
  int64_t now_ = 0;                  // mono, as told last
  bool silent_ = false;              // that time has passed, and the node has not said so
  // Told since a look began.
  bool heard_job_ = false, heard_pod_ = false;
};

}  // namespace orch::kubernetes
