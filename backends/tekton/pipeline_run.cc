#include "backends/tekton/pipeline_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "backends/kubernetes/views.h"
#include "backends/tekton/task.h"
#include "backends/tekton/task_run.h"
#include "server/base/utf8.h"

namespace orch::tekton {
namespace {

using kubernetes::JobFacts;
using nlohmann::json;

constexpr size_t kLongestRun = 16;
constexpr size_t kLongestTask = 40;
// The cluster takes an object of 1.5 MiB, and Tekton writes the tasks a second time into the run's status.
constexpr size_t kMostBytes = 640 << 10;
constexpr size_t kBytesOfTask = 1'200;

json LabelsOf(const RunOutline& outline, const RunFacts& facts) {
  return {{"app.kubernetes.io/managed-by", "orchd"},
          {kubernetes::kInstanceLabel, facts.instance},
          {kubernetes::kOrchestratorLabel, kubernetes::LabelValue(facts.orchestrator)},
          {"orchd.io/run", kubernetes::LabelValue(outline.run_name)},
          {kRunLabel, kubernetes::LabelValue(outline.run_id)},
          {"orchd.io/number", absl::StrCat(facts.number)}};
}

std::string TokenKey(const RunTask& task) { return absl::StrCat("t", task.step_index); }

AttemptWork WorkOf(const RunOutline& outline, const RunTask& task, const kubernetes::Config& config) {
  AttemptWork work;
  work.name.project = outline.project;
  work.name.run_id = outline.run_id;
  work.name.run_name = outline.run_name;
  work.name.step = task.step;
  work.command = {kubernetes::LauncherCommand(config), "run"};
  work.env = {{"ORCH_TASK", ""}};
  work.working_dir = "/";
  work.resources = task.resources;
  return work;
}

// What all tasks have is said once.
json CommonEnv(const RunOutline& outline, const kubernetes::Config& config) {
  AttemptWork all;
  all.env = outline.env;
  all.env.emplace_back("ORCH_PLACE", "");
  return kubernetes::EnvOf(all, config, JobFacts());
}

void LeaveOut(const json& common, json* env) {
  json left = json::array();
  for (json& variable : *env) {
    if (std::find(common.begin(), common.end(), variable) == common.end()) left.push_back(std::move(variable));
  }
  *env = std::move(left);
}

}  // namespace

std::string PipelineRunName(const RunOutline& outline, int number) {
  return absl::StrCat(kubernetes::Slug(outline.run_name, kLongestRun), "-", outline.key, "-", number);
}

std::string TaskName(const std::string& step, uint32_t index) {
  return absl::StrCat(kubernetes::Slug(step, kLongestTask), "-", index);
}

json PipelineRunOf(const RunOutline& outline, const kubernetes::Config& config, const RunFacts& facts) {
  const std::string name = PipelineRunName(outline, facts.number);
  const json common = CommonEnv(outline, config);
  json tasks = json::array();
  json specs = json::array();
  json usual;  // the first task's pod template
  std::string usual_account;
  std::vector<std::string> names;
  names.reserve(outline.tasks.size());
  for (const RunTask& task : outline.tasks) names.push_back(TaskName(task.step, task.step_index));
  for (size_t t = 0; t < outline.tasks.size(); ++t) {
    const RunTask& task = outline.tasks[t];
    JobFacts of;
    of.instance = facts.instance;
    of.orchestrator = facts.orchestrator;
    of.image = task.image.empty() ? config.image : task.image;
    of.secret = name;
    of.secret_key = TokenKey(task);
    std::vector<Violation> faults;  // none: they were refused at submit
    of.settings = kubernetes::ReadSettings(config.settings, task.settings_json, &faults);
    json pod = kubernetes::PodTemplateOf(WorkOf(outline, task, config), config, of);
    kubernetes::PatchPod(of.settings, &pod);
    Task made = TaskOf(pod, &faults);
    for (json& step : made.spec["steps"]) {
      if (step["name"] == kMainStep) LeaveOut(common, &step["env"]);
    }
    // What the run itself has reaches them by Tekton.
    for (const char* label :
         {"app.kubernetes.io/managed-by", kubernetes::kInstanceLabel, kubernetes::kOrchestratorLabel, "orchd.io/run"}) {
      made.labels.erase(label);
    }
    for (const char* annotation : {"orchd.io/run", "orchd.io/run-id"}) made.annotations.erase(annotation);
    made.labels[kTaskLabel] = absl::StrCat(task.step_index);
    made.spec["metadata"] = {{"labels", std::move(made.labels)}, {"annotations", std::move(made.annotations)}};
    json one = {{"name", names[t]}, {"timeout", "0s"}, {"taskSpec", std::move(made.spec)}};
    if (!outline.stops_at_failure) one["onError"] = "continue";
    if (task.starts > 1) one["retries"] = task.starts - 1;
    for (const size_t before : task.after) one["runAfter"].push_back(names[before]);
    tasks.push_back(std::move(one));
    if (t == 0) {
      usual = made.pod_template;
      usual_account = made.service_account;
    } else if (made.pod_template != usual || made.service_account != usual_account) {
      json spec = {{"pipelineTaskName", names[t]}, {"podTemplate", std::move(made.pod_template)}};
      if (!made.service_account.empty()) spec["serviceAccountName"] = made.service_account;
      specs.push_back(std::move(spec));
    }
  }
  usual["env"] = common;
  json all = {{"podTemplate", std::move(usual)}};
  if (!usual_account.empty()) all["serviceAccountName"] = usual_account;
  json spec = {{"timeouts", {{"pipeline", "0s"}}},  // the daemon's business
               {"taskRunTemplate", std::move(all)},
               {"pipelineSpec", {{"tasks", std::move(tasks)}}}};
  if (!specs.empty()) spec["taskRunSpecs"] = std::move(specs);
  return {{"apiVersion", kApiVersion},
          {"kind", "PipelineRun"},
          {"metadata",
           {{"name", name},
            {"labels", LabelsOf(outline, facts)},
            {"annotations",
             {{"orchd.io/run", ToUtf8(outline.run_name)},
              {"orchd.io/run-id", outline.run_id},
              {"orchd.io/pipeline", ToUtf8(outline.pipeline)}}}}},
          {"spec", std::move(spec)}};
}

json SecretOf(const RunOutline& outline, const RunFacts& facts) {
  json data = json::object();
  for (const RunTask& task : outline.tasks) data[TokenKey(task)] = task.token;
  return {{"apiVersion", "v1"},
          {"kind", "Secret"},
          {"metadata", {{"name", PipelineRunName(outline, facts.number)}, {"labels", LabelsOf(outline, facts)}}},
          {"type", "Opaque"},
          {"stringData", std::move(data)}};
}

std::string WhyNotWhole(const RunOutline& outline, const kubernetes::Config&) {
  size_t bytes = 0;
  for (const RunTask& task : outline.tasks) {
    if (task.starts > 1 && !outline.stops_at_failure) {
      return absl::StrCat("step `", task.step,
                          "` may be tried again in a run that goes on after a failure, and a task of ",
                          "Tekton's is the one or the other");
    }
    bytes += kBytesOfTask + task.settings_json.size();
  }
  if (bytes > kMostBytes) {
    return absl::StrCat("its PipelineRun would be too big for a cluster: ", outline.tasks.size(), " tasks, about ",
                        bytes >> 10, " KiB of at most ", kMostBytes >> 10);
  }
  return "";
}

PipelineRunView ReadPipelineRun(const json& object, const std::string& selector) {
  PipelineRunView out;
  const kubernetes::JobView view = ReadTaskRun(object, selector);  // metadata and condition are of the same form
  out.name = view.name;
  out.uid = view.uid;
  out.deleting = view.deleting;
  out.over = view.complete || view.failed;
  out.reason = view.reason;
  out.message = view.message;
  if (!object.is_object()) return out;
  const json labels = object.value("/metadata/labels"_json_pointer, json::object());
  if (!labels.is_object()) return out;
  const auto label = [&](const std::string& name) {
    const auto found = labels.find(name);
    return found != labels.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  out.run_id = label(kRunLabel);
  out.ours = !out.run_id.empty() && absl::SimpleAtoi(label("orchd.io/number"), &out.number);
  for (const absl::string_view pair : absl::StrSplit(selector, ',')) {
    const std::pair<std::string, std::string> wanted = absl::StrSplit(pair, absl::MaxSplits('=', 1));
    out.ours = out.ours && label(wanted.first) == wanted.second;
  }
  const json tasks = object.value("/spec/pipelineSpec/tasks"_json_pointer, json::array());
  for (const json& task : tasks) {
    uint32_t index = 0;
    const std::string of = absl::StrCat("/taskSpec/metadata/labels/", "orchd.io~1task");
    if (!task.is_object() || !absl::SimpleAtoi(task.value(json::json_pointer(of), ""), &index)) continue;
    out.tasks[index] = task.value("name", "");
  }
  return out;
}

}  // namespace orch::tekton
