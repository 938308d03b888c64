#include "backends/tekton/task_fate.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace orch::tekton {

std::string PlaceOf(const kubernetes::PodView& pod) { return absl::StrCat(pod.name, "/", pod.uid); }

std::string PodOf(const std::string& place) { return place.substr(0, place.find('/')); }

void TaskSeen::SetListing(bool of_pods) {
  if (!of_pods) {
    task_run_unlisted = task_run.has_value();
    return;
  }
  for (const auto& [place, pod] : pods) pods_unlisted.insert(place);
}

void TaskSeen::See(kubernetes::PodView pod, bool gone) {
  const std::string place = PlaceOf(pod);
  pods_unlisted.erase(place);
  pods_gone[place] = gone;
  pods[place] = std::move(pod);
}

void TaskSeen::See(kubernetes::JobView run, bool gone) {
  task_run_unlisted = false;
  task_run_gone = gone;
  task_run = std::move(run);
}

void TaskSeen::SetListed(bool of_pods) {
  if (!of_pods) {
    task_run_gone = task_run_gone || std::exchange(task_run_unlisted, false);
    return;
  }
  for (const std::string& place : pods_unlisted) pods_gone[place] = true;
  pods_unlisted.clear();
}

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
