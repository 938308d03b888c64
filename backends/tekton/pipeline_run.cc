#include "backends/tekton/pipeline_run.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

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
// What it writes there of a task's TaskRun besides, by half.
constexpr size_t kBytesOfChild = 128;
// Of the run itself, with an environment that is not known yet when it is planned.
constexpr size_t kBytesOfHead = 16 << 10;
constexpr size_t kBytesOfList = 14;  // `,"runAfter":[]`
constexpr size_t kBytesOfText = 3;   // `"",`
constexpr size_t kDigits = 7;

json LabelsOf(const RunOutline& outline, const RunFacts& facts) {
  return {{"app.kubernetes.io/managed-by", "orchd"},
          {kubernetes::kInstanceLabel, facts.instance},
          {kubernetes::kOrchestratorLabel, kubernetes::UniqueLabelValue(facts.orchestrator)},
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

struct Rendered {
  json task;  // without what comes before it
  json pod_template;
  std::string account;

  bool operator==(const Rendered& other) const {
    return pod_template == other.pod_template && account == other.account;
  }
};

Rendered Render(const RunOutline& outline, const RunTask& task, const std::string& name,
                const kubernetes::Config& config, const JobFacts& facts, const json& common) {
  JobFacts of = facts;
  of.image = task.image.empty() ? config.image : task.image;
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
  Rendered out;
  out.task = {{"name", name}, {"timeout", "0s"}, {"taskSpec", std::move(made.spec)}};
  if (!outline.stops_at_failure) out.task["onError"] = "continue";
  if (task.starts > 1) out.task["retries"] = task.starts - 1;
  out.pod_template = std::move(made.pod_template);
  out.account = std::move(made.service_account);
  return out;
}

// For a field that a task's own template does not have, and for an account that it does not name, Tekton takes those
// of the template for all. So that has only what is the same in each.
void KeepAlike(const Rendered& one, Rendered* alike) {
  if (one.account != alike->account) alike->account.clear();
  for (auto it = alike->pod_template.begin(); it != alike->pod_template.end();) {
    const auto found = one.pod_template.find(it.key());
    it = found == one.pod_template.end() || *found != *it ? alike->pod_template.erase(it) : std::next(it);
  }
}

// Of a task that has more than all have; it says all of it.
json OwnSpec(const std::string& name, Rendered* one) {
  json spec = {{"pipelineTaskName", name}, {"podTemplate", std::move(one->pod_template)}};
  if (!one->account.empty()) spec["serviceAccountName"] = std::move(one->account);
  return spec;
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
  JobFacts job;
  job.instance = facts.instance;
  job.orchestrator = facts.orchestrator;
  job.secret = name;
  std::vector<std::string> names;
  names.reserve(outline.tasks.size());
  for (const RunTask& task : outline.tasks) names.push_back(TaskName(task.step, task.step_index));
  std::vector<Rendered> rendered;
  rendered.reserve(outline.tasks.size());
  Rendered alike;
  for (size_t t = 0; t < outline.tasks.size(); ++t) {
    rendered.push_back(Render(outline, outline.tasks[t], names[t], config, job, common));
    if (t == 0) {
      alike.pod_template = rendered[t].pod_template;
      alike.account = rendered[t].account;
    } else {
      KeepAlike(rendered[t], &alike);
    }
  }
  json tasks = json::array();
  json specs = json::array();
  for (size_t t = 0; t < rendered.size(); ++t) {
    for (const size_t before : outline.tasks[t].after) rendered[t].task["runAfter"].push_back(names[before]);
    tasks.push_back(std::move(rendered[t].task));
    if (!(rendered[t] == alike)) specs.push_back(OwnSpec(names[t], &rendered[t]));
  }
  alike.pod_template["env"] = common;
  json all = {{"podTemplate", std::move(alike.pod_template)}};
  if (!alike.account.empty()) all["serviceAccountName"] = alike.account;
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

// It is counted and not rendered: of tasks that differ by their names alone one is.
std::string WhyNotWhole(const RunOutline& outline, const kubernetes::Config& config) {
  for (const RunTask& task : outline.tasks) {
    if (task.starts <= 1 || outline.stops_at_failure) continue;
    return absl::StrCat("step `", task.step,
                        "` may be tried again in a run that goes on after a failure, and a task of ",
                        "Tekton's is the one or the other");
  }
  struct Like {
    Rendered rendered;
    size_t bytes = 0;  // of its task
    size_t tasks = 0;
  };
  const std::string too_big = absl::StrCat("its PipelineRun would be too big for a cluster: ", outline.tasks.size(),
                                           " tasks with what each waits for, more than ", kMostBytes >> 10, " KiB");
  const json common = CommonEnv(outline, config);
  JobFacts job;
  job.secret = PipelineRunName(outline, 1);
  std::map<std::string, Like> likes;
  std::vector<size_t> names;
  names.reserve(outline.tasks.size());
  for (const RunTask& task : outline.tasks) names.push_back(TaskName(task.step, task.step_index).size());
  size_t bytes = kBytesOfHead + common.dump(-1, ' ', false, json::error_handler_t::replace).size();
  size_t bytes_of_names = 0;
  for (size_t t = 0; t < outline.tasks.size(); ++t) {
    const RunTask& task = outline.tasks[t];
    const Resources& needs = task.resources;
    const auto [it, fresh] =
        likes.try_emplace(absl::StrCat(task.starts, " ", needs.cpu_millis, " ", needs.memory, " ", needs.disk, " ",
                                       needs.gpu, " ", task.image.size(), " ", task.image, task.settings_json));
    Like& like = it->second;
    if (fresh) {
      RunTask nameless = task;
      nameless.step.clear();
      nameless.step_index = 0;
      like.rendered = Render(outline, nameless, "", config, job, common);
      like.bytes = like.rendered.task.dump(-1, ' ', false, json::error_handler_t::replace).size();
    }
    ++like.tasks;
    bytes_of_names += names[t];
    // Its name, its step as label and annotation, its number as label and of its token.
    bytes += kBytesOfChild + like.bytes + names[t] + 2 * task.step.size() + 2 * kDigits;
    if (!task.after.empty()) bytes += kBytesOfList;
    for (const size_t before : task.after) bytes += names[before] + kBytesOfText;
    if (bytes > kMostBytes) return too_big;
  }
  if (likes.size() <= 1) return "";
  Rendered alike;
  alike.pod_template = likes.begin()->second.rendered.pod_template;
  alike.account = likes.begin()->second.rendered.account;
  for (const auto& [key, like] : likes) KeepAlike(like.rendered, &alike);
  bytes += bytes_of_names;
  for (auto& [key, like] : likes) {
    if (like.rendered == alike) continue;
    bytes += like.tasks * (OwnSpec("", &like.rendered).dump(-1, ' ', false, json::error_handler_t::replace).size() + 1);
  }
  return bytes > kMostBytes ? too_big : "";
}

namespace {

// What comes from a server may be of any form: null where there is no such thing.
const json& At(const json& object, std::initializer_list<const char*> keys) {
  static const json kNothing;
  const json* at = &object;
  for (const char* key : keys) {
    const auto found = at->find(key);  // of what is no object: end()
    if (found == at->end()) return kNothing;
    at = &*found;
  }
  return *at;
}

std::string Text(const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

}  // namespace

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
  const json& labels = At(object, {"metadata", "labels"});
  const auto label = [&](const std::string& name) { return Text(At(labels, {name.c_str()})); };
  out.run_id = label(kRunLabel);
  out.ours = !out.run_id.empty() && absl::SimpleAtoi(label("orchd.io/number"), &out.number);
  for (const absl::string_view pair : absl::StrSplit(selector, ',')) {
    const std::pair<std::string, std::string> wanted = absl::StrSplit(pair, absl::MaxSplits('=', 1));
    out.ours = out.ours && label(wanted.first) == wanted.second;
  }
  const json& tasks = At(object, {"spec", "pipelineSpec", "tasks"});
  if (!tasks.is_array()) return out;
  for (const json& task : tasks) {
    uint32_t index = 0;
    if (!absl::SimpleAtoi(Text(At(task, {"taskSpec", "metadata", "labels", "orchd.io/task"})), &index)) continue;
    out.tasks[index] = Text(At(task, {"name"}));
  }
  return out;
}

}  // namespace orch::tekton
