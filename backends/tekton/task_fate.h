// What has become of a task of a PipelineRun, for the attempt that waits for it or was begun in it. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "backends/kubernetes/views.h"

namespace orch::tekton {

// What was seen of one task.
struct TaskSeen {
  std::optional<kubernetes::JobView> task_run;  // the last state; nothing: Tekton has made none yet
  bool task_run_gone = false;
  std::map<std::string, kubernetes::PodView> pods;  // by place; the last state of each
  std::map<std::string, bool> pods_gone;
  // While all there is is listed anew: what has not been among it yet.
  bool task_run_unlisted = false;
  std::set<std::string> pods_unlisted;

  void SetListing(bool pods);
  void See(kubernetes::PodView pod, bool gone);
  void See(kubernetes::JobView run, bool gone);
  void SetListed(bool pods);
  // Nothing is started in it any more.
  bool over() const { return task_run_gone || (task_run && (task_run->complete || task_run->failed)); }
  // The TaskRun that the pod was made for is not there any more, though perhaps another one of its name.
  bool MadeForAnother(const kubernetes::PodView& pod) const {
    return task_run_gone || (task_run && !pod.owner.empty() && pod.owner != task_run->uid);
  }
};

// What a launcher calls the pod that it is in: `NAME/UID`, since Tekton makes pods of the same name again.
std::string PlaceOf(const kubernetes::PodView& pod);
// The pod's name.
std::string PodOf(const std::string& place);

enum class TaskFate {
  kGoesOn,
  kPlaceOver,   // where the attempt was begun nothing runs any more
  kPlaceTaken,  // the same, as its pod was deleted; Tekton may still say why, who may have done that itself
  kNotStarted,  // nobody comes for it any more
};

// `place`: the pod in which it was begun; empty: nowhere yet. `run_over`: its PipelineRun has ended, or is not there.
TaskFate FateOf(const TaskSeen& seen, bool run_over, const std::string& place);

}  // namespace orch::tekton
