#include "backends/tekton/task.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backends/kubernetes/settings.h"

namespace orch::tekton {
namespace {

using nlohmann::json;

constexpr const char* kOfPods[] = {"affinity",           "automountServiceAccountToken",
                                   "dnsConfig",          "dnsPolicy",
                                   "enableServiceLinks", "hostAliases",
                                   "hostNetwork",        "hostUsers",
                                   "imagePullSecrets",   "nodeSelector",
                                   "priorityClassName",  "runtimeClassName",
                                   "schedulerName",      "securityContext",
                                   "tolerations",        "topologySpreadConstraints"};
// What ours have and Tekton decides by itself.
constexpr const char* kTektons[] = {"restartPolicy", "terminationGracePeriodSeconds"};
constexpr const char* kOfSteps[] = {
    "args",      "command",         "env",           "envFrom",      "image",     "imagePullPolicy", "name",
    "resources", "securityContext", "volumeDevices", "volumeMounts", "workingDir"};
constexpr const char* kOfSidecars[] = {"args",
                                       "command",
                                       "env",
                                       "envFrom",
                                       "image",
                                       "imagePullPolicy",
                                       "lifecycle",
                                       "livenessProbe",
                                       "name",
                                       "ports",
                                       "readinessProbe",
                                       "resources",
                                       "restartPolicy",
                                       "securityContext",
                                       "startupProbe",
                                       "stdin",
                                       "stdinOnce",
                                       "terminationMessagePath",
                                       "terminationMessagePolicy",
                                       "tty",
                                       "volumeDevices",
                                       "volumeMounts",
                                       "workingDir"};
// Tekton puts in what it has under these names, and refuses what it has not. There is no escape.
constexpr const char* kReferences[] = {"$(params.",  "$(params[",  "$(tasks.",   "$(context.",    "$(workspaces.",
                                       "$(results.", "$(results[", "$(steps.",   "$(step.",       "$(inputs.",
                                       "$(outputs.", "$(finally.", "$(sidecar.", "$(credentials."};

template <size_t N>
bool IsOneOf(const char* const (&names)[N], const std::string& name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

template <size_t N>
json ContainerOf(const json& container, const char* const (&known)[N], const std::string& at, const char* what,
                 std::vector<Violation>* faults) {
  json out = json::object();
  for (const auto& [name, value] : container.items()) {
    if (!IsOneOf(known, name)) {
      faults->push_back(
          {absl::StrCat(at, ".", name), absl::StrCat("is nothing that a ", what, " of Tekton's has"), "UNKNOWN_FIELD"});
      continue;
    }
    out[name == "resources" ? "computeResources" : name] = value;
  }
  return out;
}

// Steps of a task share a pod, which asks for the sum: this one copies a file.
json LittleOf(const json& resources) {
  json out = json::object();
  for (const char* kind : {"requests", "limits"}) {
    const auto found = resources.find(kind);
    if (found == resources.end() || !found->is_object()) continue;
    const bool limits = std::string(kind) == "limits";
    if (found->contains("cpu")) out[kind]["cpu"] = limits ? "200m" : "10m";
    if (found->contains("memory")) out[kind]["memory"] = limits ? "64Mi" : "16Mi";
  }
  return out;
}

void FindReferences(const json& value, const std::string& at, std::vector<Violation>* faults) {
  if (value.is_object()) {
    for (const auto& [name, one] : value.items()) FindReferences(one, absl::StrCat(at, ".", name), faults);
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) FindReferences(value[i], absl::StrCat(at, "[", i, "]"), faults);
  } else if (value.is_string()) {
    for (const char* reference : kReferences) {
      if (!absl::StrContains(value.get_ref<const std::string&>(), reference)) continue;
      faults->push_back({at,
                         absl::StrCat("has `", reference,
                                      "`, which Tekton takes for its own; let the value come from "
                                      "a ConfigMap or a Secret instead"),
                         "INVALID"});
      return;
    }
  }
}

}  // namespace

Task TaskOf(const json& pod_template, std::vector<Violation>* faults) {
  Task out;
  const json metadata = pod_template.value("metadata", json::object());
  out.labels = metadata.value("labels", json::object());
  out.annotations = metadata.value("annotations", json::object());
  for (const auto* map : {&out.labels, &out.annotations}) {
    for (const auto& [name, value] : map->items()) {
      if (!absl::StrContains(name, "tekton.dev/")) continue;
      faults->push_back({absl::StrCat("metadata.", map == &out.labels ? "labels." : "annotations.", name),
                         "is Tekton's own", "RESERVED"});
    }
  }
  const json spec = pod_template.value("spec", json::object());
  json steps = json::array();
  json sidecars = json::array();
  out.pod_template = json::object();
  json little = json::object();
  for (const json& container : spec.value("containers", json::array())) {
    if (container.value("name", "") == kubernetes::kMainContainer)
      little = LittleOf(container.value("resources", json::object()));
  }
  size_t i = 0;
  for (const json& container : spec.value("initContainers", json::array())) {
    const std::string at = absl::StrCat("spec.initContainers[", i++, "]");
    if (container.value("name", "") != kubernetes::kLauncherContainer) {
      faults->push_back({at, "a task of Tekton's has no init containers of one's own", "UNKNOWN_FIELD"});
      continue;
    }
    json step = ContainerOf(container, kOfSteps, at, "step", faults);
    step["name"] = kLauncherStep;
    step["computeResources"] = little;
    steps.push_back(std::move(step));
  }
  i = 0;
  for (const json& container : spec.value("containers", json::array())) {
    const std::string at = absl::StrCat("spec.containers[", i++, "]");
    if (container.value("name", "") == kubernetes::kMainContainer) {
      json step = ContainerOf(container, kOfSteps, at, "step", faults);
      step["name"] = kMainStep;
      steps.push_back(std::move(step));
    } else {
      sidecars.push_back(ContainerOf(container, kOfSidecars, at, "sidecar", faults));
    }
  }
  for (const auto& [name, value] : spec.items()) {
    if (name == "containers" || name == "initContainers" || IsOneOf(kTektons, name)) continue;
    if (name == "volumes") {
      out.spec["volumes"] = value;
    } else if (name == "serviceAccountName") {
      out.service_account = value.get<std::string>();
    } else if (IsOneOf(kOfPods, name)) {
      out.pod_template[name] = value;
    } else {
      faults->push_back({absl::StrCat("spec.", name),
                         absl::StrCat("Tekton's pods cannot be given it; there are ", absl::StrJoin(kOfPods, ", "),
                                      ", serviceAccountName, volumes, containers"),
                         "UNKNOWN_FIELD"});
    }
  }
  out.spec["steps"] = std::move(steps);
  if (!sidecars.empty()) out.spec["sidecars"] = std::move(sidecars);
  FindReferences(out.spec, "spec", faults);
  return out;
}

}  // namespace orch::tekton
