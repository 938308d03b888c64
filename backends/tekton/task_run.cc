#include "backends/tekton/task_run.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/tekton/task.h"
#include "server/base/utf8.h"

namespace orch::tekton {
namespace {

using kubernetes::JobView;
using nlohmann::json;

struct Verdict {
  const char* reason;
  Reason means;
};

// Of ends that the pod, which may be gone or was never made, cannot tell.
constexpr Verdict kVerdicts[] = {
    {"TaskRunCancelled", Reason::kLost},  // by somebody else
    {"TaskRunImagePullFailed", Reason::kImagePullFailed},
    {"CreateContainerConfigError", Reason::kUnschedulable},
    {"InitContainerFailed", Reason::kUnschedulable},
    {"InitContainerOOM", Reason::kUnschedulable},
    {"InvalidParamValue", Reason::kSubmitRefused},
    {"PodAdmissionFailed", Reason::kUnschedulable},
    {"PodCreationFailed", Reason::kUnschedulable},
    {"PodEvicted", Reason::kEvicted},
    {"ResourceVerificationFailed", Reason::kSubmitRefused},
    {"StepOOM", Reason::kOutOfMemory},
    {"TaskRunResolutionFailed", Reason::kSubmitRefused},
    {"TaskRunTimeout", Reason::kRunTimeout},
    {"TaskRunValidationFailed", Reason::kSubmitRefused},
    {"TaskValidationFailed", Reason::kSubmitRefused},
};

// So it makes no progress by itself.
bool Waits(const std::string& reason) {
  return reason == "ExceededResourceQuota" || reason == "ExceededNodeResources" || reason == "PullImageFailed" ||
         reason == "CreateContainerConfigError";
}

std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? ToUtf8(found->get_ref<const std::string&>()) : "";
}

}  // namespace

json TaskRunOf(const AttemptWork& work, const kubernetes::Config& config, const kubernetes::JobFacts& facts) {
  json pod = kubernetes::PodTemplateOf(work, config, facts);
  kubernetes::PatchPod(facts.settings, &pod);
  std::vector<Violation> faults;  // none: they were refused at submit
  Task task = TaskOf(pod, &faults);
  json spec = {{"taskSpec", std::move(task.spec)},
               {"podTemplate", std::move(task.pod_template)},
               {"retries", 0},      // what is tried again is a further attempt, and a TaskRun of its own
               {"timeout", "0s"}};  // the daemon's business
  if (!task.service_account.empty()) spec["serviceAccountName"] = task.service_account;
  return {{"apiVersion", kApiVersion},
          {"kind", "TaskRun"},
          {"metadata",
           {{"name", kubernetes::JobName(work.name)},
            {"labels", std::move(task.labels)},
            {"annotations", std::move(task.annotations)}}},
          {"spec", std::move(spec)}};
}

JobView ReadTaskRun(const json& object, const std::string& selector) {
  JobView out = kubernetes::ReadJob(object, selector);  // it has the same metadata
  const auto status = object.is_object() ? object.find("status") : object.end();
  if (!object.is_object() || status == object.end() || !status->is_object()) return out;
  for (const json& condition : status->value("conditions", json::array())) {
    if (!condition.is_object() || Text(condition, "type") != "Succeeded") continue;
    const std::string is = Text(condition, "status");
    out.complete = is == "True";
    out.failed = is == "False";
    out.reason = Text(condition, "reason");
    out.message = Text(condition, "message");
    if (is == "Unknown" && Waits(out.reason)) out.waits_for = absl::StrCat(out.reason, ": ", out.message);
    for (const Verdict& verdict : kVerdicts) {
      if (out.failed && out.reason == verdict.reason) out.verdict = verdict.means;
    }
  }
  return out;
}

const kubernetes::JobKind& TaskRuns() {
  static const auto* const kKind =
      new kubernetes::JobKind{"TaskRun",
                              kApiVersion,
                              "taskruns",
                              "docs/tekton.md",
                              {absl::StrCat("step-", kMainStep), absl::StrCat("step-", kLauncherStep), ""},
                              /*has_verdict=*/true,
                              R"({"spec":{"status":"TaskRunCancelled","statusMessage":"stopped by orchd"}})",
                              TaskRunOf,
                              ReadTaskRun};
  return *kKind;
}

}  // namespace orch::tekton
