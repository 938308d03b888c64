#include "backends/tekton/task_fate.h"

namespace orch::tekton {

TaskFate FateOf(const TaskSeen& seen, bool run_over, const std::string& place) {
  const bool over = run_over || seen.over();
  if (place.empty()) return over ? TaskFate::kNotStarted : TaskFate::kGoesOn;
  const auto pod = seen.pods.find(place);
  if (pod == seen.pods.end()) return over ? TaskFate::kPlaceOver : TaskFate::kGoesOn;
  const auto gone = seen.pods_gone.find(place);
  const bool pod_over = pod->second.over() || (gone != seen.pods_gone.end() && gone->second);
  return pod_over ? TaskFate::kPlaceOver : TaskFate::kGoesOn;
}

}  // namespace orch::tekton
