#include "backends/tekton/task_fate.h"

#include "absl/strings/str_cat.h"

namespace orch::tekton {

std::string PlaceOf(const kubernetes::PodView& pod) { return absl::StrCat(pod.name, "/", pod.uid); }

std::string PodOf(const std::string& place) { return place.substr(0, place.find('/')); }

TaskFate FateOf(const TaskSeen& seen, bool run_over, const std::string& place) {
  const bool over = run_over || seen.over();
  if (place.empty()) return over ? TaskFate::kNotStarted : TaskFate::kGoesOn;
  const auto pod = seen.pods.find(place);
  const auto marked = seen.pods_gone.find(place);
  const bool known = pod != seen.pods.end();
  const bool gone = marked != seen.pods_gone.end() && marked->second;
  const bool judged = over || (known && seen.MadeForAnother(pod->second));
  if (!gone && !(known ? pod->second.over() : over)) return TaskFate::kGoesOn;
  const bool taken = gone || (known && pod->second.deleting);
  return taken && !judged ? TaskFate::kPlaceTaken : TaskFate::kPlaceOver;
}

}  // namespace orch::tekton
