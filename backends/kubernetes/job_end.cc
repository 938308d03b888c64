#include "backends/kubernetes/job_end.h"

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace orch::kubernetes {
namespace {

constexpr int kBySignal = 128;  // and above
constexpr int kSignals = 64;

struct Taken {
  Reason reason = Reason::kNone;
  std::string message;
};

std::string Words(const std::string& reason, const std::string& message) {
  return absl::StrCat(reason, message.empty() ? "" : ": ", message);
}

// Somebody took the pod away: the scheduler for another one, the node for want of room, or with the node itself.
Taken TakenAway(const PodView& pod) {
  const std::string& by = pod.disruption_reason;
  const std::string& why = pod.reason;
  const std::string words = by.empty()
                                ? Words(why, pod.message)
                                : Words(by, pod.disruption_message.empty() ? pod.message : pod.disruption_message);
  const std::string node = pod.node.empty() ? "" : absl::StrCat(" on node ", pod.node);
  if (by == "PreemptionByScheduler" || why == "Preempting") {
    return {Reason::kPreempted,
            absl::StrCat("its pod had to make room for one of a higher priority", node, " (", words, ")")};
  }
  if (by == "DeletionByTaintManager" || by == "DeletionByPodGC" || why == "NodeLost") {
    return {Reason::kNodeLost, absl::StrCat("its node is lost", node, " (", words, ")")};
  }
  if (why == "NodeShutdown" || why == "Shutdown" || (why == "Terminated" && pod.failed())) {
    return {Reason::kNodeLost, absl::StrCat("its node was shut down", node, " (", words, ")")};
  }
  if (by == "EvictionByEvictionAPI") {
    return {Reason::kEvicted, absl::StrCat("its pod was evicted", node, ", as when a node is drained (", words, ")")};
  }
  if (why == "Evicted" || by == "TerminationByKubelet") {
    return {Reason::kEvicted, absl::StrCat("its pod was evicted by the node", node, " (", words, ")")};
  }
  if (!by.empty()) return {Reason::kEvicted, absl::StrCat("its pod was taken away", node, " (", words, ")")};
  return {};
}

// The pod failed as a whole, and nothing is known of the step's container.
void Failed(const PodView& pod, AttemptEnd* end) {
  const bool init = pod.init.ended();
  end->never_started = !pod.began();
  if (pod.reason == "DeadlineExceeded") {
    end->reason = Reason::kRunTimeout;
    end->message =
        absl::StrCat("its pod ran for longer than its activeDeadlineSeconds (", Words(pod.reason, pod.message), ")");
  } else if (init && pod.init_is_own) {
    const bool memory = pod.init.reason == "OOMKilled";
    end->reason = memory ? Reason::kOutOfMemory : Reason::kExitCode;
    end->exit_code = pod.init.exit_code;
    end->message = absl::StrCat("its init container ", pod.init.name, memory ? " ran out of memory: " : ": ",
                                "exit code ", pod.init.exit_code, ", ", Words(pod.init.reason, pod.init.message));
  } else if (init) {
    end->reason = Reason::kUnschedulable;
    end->message = absl::StrCat("the launcher could not be brought into its pod: exit code ", pod.init.exit_code, ", ",
                                Words(pod.init.reason, pod.init.message));
  } else {  // `OutOfcpu`, `NodeAffinity`, `UnexpectedAdmissionError`
    end->reason = Reason::kUnschedulable;
    end->message = absl::StrCat("the node did not take its pod: ", Words(pod.reason, pod.message));
  }
}

// Somebody else deleted it under the step, which ended for that.
bool Deleted(const PodView& pod, const JobFate& fate) {
  return pod.deleting && !fate.stop_sent && TakenAway(pod).reason == Reason::kNone &&
         pod.reason != "DeadlineExceeded" && pod.main.reason != "OOMKilled";
}

// Who makes the pods has taken this one away, or never made one, and says why.
bool HasVerdict(const std::optional<PodView>& pod, const std::optional<JobView>& job, const JobFate& fate) {
  const bool gone = !pod || pod->deleting || fate.pod_gone;
  return gone && !fate.stop_sent && job && job->failed && job->verdict != Reason::kNone;
}

void Exited(const PodView& pod, const JobFate& fate, AttemptEnd* end) {
  const ContainerView& main = pod.main;
  const int code = main.exit_code;
  const Taken taken = fate.stop_sent ? Taken() : TakenAway(pod);
  if (main.reason == "OOMKilled") {
    end->reason = Reason::kOutOfMemory;
    end->signal = 9;
    end->message =
        fate.memory > 0 ? absl::StrCat("out of memory: it may use ", fate.memory, " bytes") : "out of memory";
  } else if (taken.reason != Reason::kNone) {
    end->reason = taken.reason;
    end->message = taken.message;
  } else if (pod.reason == "DeadlineExceeded") {
    end->reason = Reason::kRunTimeout;
    end->message =
        absl::StrCat("its pod ran for longer than its activeDeadlineSeconds (", Words(pod.reason, pod.message), ")");
  } else if (main.reason == "StartError" || main.reason == "ContainerCannotRun") {
    end->reason = Reason::kCommandNotFound;
    end->never_started = true;
    end->message = absl::StrCat("its launcher could not be started; is it in the image, or launcher_image set? (",
                                Words(main.reason, main.message), ")");
  } else if (main.reason == "ContainerStatusUnknown") {
    end->reason = Reason::kNodeLost;
    end->message = absl::StrCat("its node does not know what became of it (", Words(main.reason, main.message), ")");
  } else if (code > kBySignal && code <= kBySignal + kSignals) {
    end->signal = code - kBySignal;
    end->reason = Reason::kSignaled;
    end->message = absl::StrCat("ended by signal ", *end->signal, " (", strsignal(*end->signal), ")");
  } else {
    end->exit_code = code;
    end->reason = Reason::kExitCode;
    end->message = absl::StrCat("exit code ", code);
  }
}

// There is no pod any more, and its last state was no end.
void Vanished(const std::optional<PodView>& pod, const std::optional<JobView>& job, const JobFate& fate, JobEnd* out) {
  AttemptEnd& end = out->end;
  end.never_started = !pod || !pod->began();
  if (fate.stop_sent) {
    end.reason = Reason::kCancelRequested;
    end.message = fate.silent ? "its pod was told to end, and its node does not answer" : "";
    return;
  }
  const Taken taken = pod ? TakenAway(*pod) : Taken();
  if (taken.reason != Reason::kNone) {
    end.reason = taken.reason;
    end.message = taken.message;
    return;
  }
  if (job && job->complete) {  // its launcher has told more
    end.exit_code = 0;
    end.never_started = false;
    return;
  }
  out->lost = true;
  if (fate.silent) {
    end.message = absl::StrCat("its pod was deleted, and its node does not say what became of it");
  } else if (fate.job_gone) {
    end.message = absl::StrCat("its ", fate.word, " was deleted by somebody else");
  } else {
    end.message = absl::StrCat(
        "its pod was deleted by somebody else",
        job && job->failed ? absl::StrCat(" (", fate.word, ": ", Words(job->reason, job->message), ")") : "");
  }
}

}  // namespace

JobEnd EndOf(const std::optional<PodView>& pod, const std::optional<JobView>& job, const JobFate& fate) {
  JobEnd out;
  AttemptEnd& end = out.end;
  if (pod) {
    end.external_id = pod->name;
    end.started_wall = pod->main.started_wall;
    end.ended_wall = pod->main.ended_wall;
  }
  // One that was over before anybody deleted it has ended by itself.
  end.stopped = fate.stop_sent && (!pod || pod->deleting || !pod->over());
  end.stdout_bytes = fate.stdout_bytes;
  end.stderr_bytes = fate.stderr_bytes;
  if (fate.over_limit) {
    end.reason = Reason::kLogLimit;
    end.message = absl::StrCat("it wrote ", end.stdout_bytes + end.stderr_bytes, " bytes of log (limit log_bytes)");
  } else if (pod && (pod->succeeded() || (pod->main.ended() && pod->main.exit_code == 0))) {
    // Also if the kernel ended one of its children for want of memory: that was its own business.
    end.exit_code = 0;
  } else if (HasVerdict(pod, job, fate)) {
    end.reason = job->verdict;
    out.lost = job->verdict == Reason::kLost;
    end.message = Words(job->reason, job->message);
    end.never_started = !pod || !pod->began();
  } else if (pod && pod->over() && Deleted(*pod, fate)) {
    out.lost = true;
    end.message = fate.job_gone ? absl::StrCat("its ", fate.word, " was deleted by somebody else")
                                : "its pod was deleted by somebody else";
  } else if (pod && pod->main.ended()) {
    Exited(*pod, fate, &end);
  } else if (pod && pod->failed()) {
    const Taken taken = fate.stop_sent ? Taken() : TakenAway(*pod);
    if (taken.reason != Reason::kNone) {
      end.reason = taken.reason;
      end.message = taken.message;
      end.never_started = !pod->began();
    } else {
      Failed(*pod, &end);
    }
  } else {
    Vanished(pod, job, fate, &out);
  }
  if (!fate.log_fault.empty()) {
    absl::StrAppend(&end.message, end.message.empty() ? "" : "; ", "its log is not whole: ", fate.log_fault);
  }
  return out;
}

}  // namespace orch::kubernetes
