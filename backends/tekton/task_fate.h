// What has become of a task of a PipelineRun, for the attempt that waits for it or was begun in it. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "backends/kubernetes/views.h"

namespace orch::tekton {

// What was seen of one task.
struct TaskSeen {
  std::optional<kubernetes::JobView> task_run;  // the last state; nothing: Tekton has made none yet
  bool task_run_gone = false;
  std::map<std::string, kubernetes::PodView> pods;  // by name; the last state of each
  std::map<std::string, bool> pods_gone;

  // Nothing is started in it any more.
  bool over() const { return task_run_gone || (task_run && (task_run->complete || task_run->failed)); }
};

enum class TaskFate {
  kGoesOn,
  kPlaceOver,   // where the attempt was begun nothing runs any more
  kNotStarted,  // nobody comes for it any more
};

// `place`: the pod in which it was begun; empty: nowhere yet. `run_over`: its PipelineRun has ended, or is not there.
TaskFate FateOf(const TaskSeen& seen, bool run_over, const std::string& place);

}  // namespace orch::tekton
