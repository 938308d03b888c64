// A whole run as a PipelineRun, and the fate of its tasks.
#include "backends/tekton/pipeline_run.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "absl/strings/str_cat.h"
#include "backends/tekton/task_fate.h"
#include "backends/tekton/task_run.h"

namespace orch::tekton {
namespace {

using kubernetes::Config;
using kubernetes::JobView;
using kubernetes::PodView;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

RunOutline Outline(uint32_t tasks) {
  RunOutline out;
  out.key = "abcdefghijklmnopqrst";
  out.run_id = "0192f0a1-0000-7000-8000-000000000001";
  out.run_name = "digits-1";
  out.pipeline = "digits";
  out.env = {{"ORCH_ENDPOINT", "https://10.0.0.1:7434"}};
  for (uint32_t t = 0; t < tasks; ++t) {
    RunTask task;
    task.step_index = t;
    task.step = absl::StrCat("train[", t, "]");
    if (t > 0) task.after = {t - 1};
    task.token = absl::StrCat("token-", t);
    out.tasks.push_back(task);
  }
  return out;
}
Config Pods() {
  Config config;
  config.image = "python:3.11-slim";
  config.launcher_image = "launcher:1";
  return config;
}
RunFacts Facts() { return {"i", "o", 1}; }

TEST(PipelineRunTest, ATaskForEachStepInItsOrderAndNoTokenInIt) {
  const RunOutline outline = Outline(3);
  const json object = PipelineRunOf(outline, Pods(), Facts());
  const json& tasks = object["spec"]["pipelineSpec"]["tasks"];
  ASSERT_EQ(tasks.size(), 3U);
  EXPECT_FALSE(tasks[0].contains("runAfter"));
  EXPECT_EQ(tasks[2]["runAfter"], json::array({tasks[1]["name"]}));
  EXPECT_EQ(tasks[1]["onError"], "continue");  // what depends on it asks the daemon what to do
  EXPECT_EQ(object.dump().find("token-1"), std::string::npos);
  EXPECT_THAT(SecretOf(outline, Facts()).dump(), HasSubstr("token-1"));
  EXPECT_EQ(object["metadata"]["name"], SecretOf(outline, Facts())["metadata"]["name"]);
  RunFacts second = Facts();
  second.number = 2;
  EXPECT_NE(PipelineRunOf(outline, Pods(), second)["metadata"]["name"], object["metadata"]["name"]);
}

TEST(PipelineRunTest, WhatIsReadIsWhatWasWritten) {
  const json object = PipelineRunOf(Outline(3), Pods(), Facts());
  const PipelineRunView view = ReadPipelineRun(object, "orchd.io/instance=i,orchd.io/orchestrator=o");
  EXPECT_TRUE(view.ours);
  EXPECT_EQ(view.number, 1);
  EXPECT_EQ(view.tasks.at(2), object["spec"]["pipelineSpec"]["tasks"][2]["name"]);
  EXPECT_FALSE(ReadPipelineRun(object, "orchd.io/instance=other,orchd.io/orchestrator=o").ours);
}

TEST(PipelineRunTest, OneOfAnyFormIsReadAsFarAsItGoes) {
  for (
      const char* text :
      {R"({"metadata": [], "spec": 3})",
       R"({"metadata": {"labels": {"orchd.io/run": 7}}, "spec": {"pipelineSpec": []}})",
       R"({"metadata": {"labels": null}, "spec": {"pipelineSpec": {"tasks": {"a": 1}}}})",
       R"({"spec": {"pipelineSpec": {"tasks": [3, {"name": 1, "taskSpec": {"metadata": {"labels": {"orchd.io/task": "5"}}}}]}}})"}) {
    const PipelineRunView view = ReadPipelineRun(nlohmann::json::parse(text), "orchd.io/instance=i");
    EXPECT_FALSE(view.ours) << text;
    EXPECT_LE(view.tasks.size(), 1U) << text;
  }
}

TEST(PipelineRunTest, RetriesGoWhereTheRunStopsAtAFailureAndElseItGoesStepByStep) {
  RunOutline outline = Outline(2);
  outline.tasks[1].starts = 3;
  EXPECT_THAT(WhyNotWhole(outline, Pods()), HasSubstr("train[1]"));
  outline.stops_at_failure = true;
  EXPECT_EQ(WhyNotWhole(outline, Pods()), "");
  const json object = PipelineRunOf(outline, Pods(), Facts());
  const json& task = object["spec"]["pipelineSpec"]["tasks"][1];
  EXPECT_EQ(task["retries"], 2);
  EXPECT_FALSE(task.contains("onError"));
}

// As Tekton has it for a task (GetTaskRunSpec, MergePodTemplateWithDefault): what its own entry leaves open is as for
// all. Without the variables.
json TemplateOf(const json& object, size_t task, std::string* account) {
  const json& spec = object["spec"];
  json out = spec["taskRunTemplate"].value("podTemplate", json::object());
  *account = spec["taskRunTemplate"].value("serviceAccountName", "");
  for (const json& own : spec.value("taskRunSpecs", json::array())) {
    if (own["pipelineTaskName"] != spec["pipelineSpec"]["tasks"][task]["name"]) continue;
    out.update(own["podTemplate"]);
    *account = own.value("serviceAccountName", *account);
  }
  out.erase("env");
  return out;
}

TEST(PipelineRunTest, NoTaskGetsWhatAnotherOneAsksFor) {
  const std::vector<std::string> settings = {
      R"({"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}], "runtime_class": "nvidia",
          "priority_class": "high", "pod_security_context": {"runAsUser": 0}, "image_pull_secrets": ["registry"],
          "service_account": "root", "scheduler": "other", "affinity": {"nodeAffinity": {}},
          "topology_spread": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
          "pod_template": {"spec": {"hostNetwork": true, "hostUsers": false, "dnsPolicy": "None",
                                    "hostAliases": [{"ip": "10.0.0.1"}]}}})",
      "", R"({"node_selector": {"pool": "cpu"}, "service_account": "steps"})"};
  RunOutline outline = Outline(3);
  for (size_t t = 0; t < settings.size(); ++t) outline.tasks[t].settings_json = settings[t];
  for (int turn = 0; turn < 3; ++turn) {  // whichever comes first
    const json object = PipelineRunOf(outline, Pods(), Facts());
    EXPECT_EQ(object["spec"]["taskRunTemplate"]["podTemplate"]["env"][0]["name"], "ORCH_ENDPOINT");
    for (size_t t = 0; t < outline.tasks.size(); ++t) {
      kubernetes::JobFacts facts;
      std::vector<Violation> faults;
      facts.settings = kubernetes::ReadSettings(Pods().settings, outline.tasks[t].settings_json, &faults);
      const json alone = TaskRunOf(AttemptWork(), Pods(), facts);
      std::string account;
      EXPECT_EQ(TemplateOf(object, t, &account), alone["spec"]["podTemplate"]) << turn << " " << t;
      EXPECT_EQ(account, alone["spec"].value("serviceAccountName", "")) << turn << " " << t;
    }
    std::rotate(outline.tasks.begin(), outline.tasks.begin() + 1, outline.tasks.end());
  }
}

TEST(PipelineRunTest, WhatAllTasksHaveIsSaidOnce) {
  kubernetes::Config config = Pods();
  std::vector<Violation> faults;
  config.settings =
      kubernetes::ReadSettings({}, R"({"node_selector": {"pool": "a"}, "service_account": "s"})", &faults);
  const json object = PipelineRunOf(Outline(5), config, Facts());
  EXPECT_EQ(object["spec"]["taskRunTemplate"]["podTemplate"]["nodeSelector"], json({{"pool", "a"}}));
  EXPECT_EQ(object["spec"]["taskRunTemplate"]["serviceAccountName"], "s");
  EXPECT_FALSE(object["spec"].contains("taskRunSpecs"));
}

struct Shape {
  const char* name;
  std::function<RunOutline(uint32_t)> outline;
  const char* settings;  // the orchestrator's
};

// Tekton writes the tasks a second time into the object, and what it has made for each: in all that has to fit into
// 1.5 MiB.
TEST(PipelineRunTest, AtTheLimitItFitsAndPastItGoesStepByStep) {
  const auto own = [](uint32_t tasks) {
    RunOutline out = Outline(tasks);
    for (RunTask& task : out.tasks) {
      task.settings_json = absl::StrCat(R"({"node_selector": {"node": "n)", task.step_index,
                                        R"("}, "affinity": {"podAffinity": {}}, "priority_class": "high"})");
    }
    return out;
  };
  const auto fan_in = [](uint32_t tasks) {  // each of one half waits for all of the other
    RunOutline out = Outline(tasks);
    for (RunTask& task : out.tasks) {
      task.after.clear();
      for (size_t t = 0; task.step_index >= tasks / 2 && t < tasks / 2; ++t) task.after.push_back(t);
    }
    return out;
  };
  const std::string much =
      absl::StrCat(R"({"env": {"TEXT": ")", std::string(2000, 'x'),
                   R"("}, "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "p"}}],
      "pod_template": {"metadata": {"annotations": {"note": "n"}}}})");
  const Shape shapes[] = {{"chain", Outline, "{}"},
                          {"own settings", own, "{}"},
                          {"fan-in", fan_in, "{}"},
                          {"much in each", Outline, much.c_str()}};
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.name);
    Config config = Pods();
    std::vector<Violation> faults;
    config.settings = kubernetes::ReadSettings({}, shape.settings, &faults);
    ASSERT_TRUE(faults.empty());
    uint32_t fits = 2;
    for (uint32_t more = 1024; more > 0; more /= 2) {
      if (WhyNotWhole(shape.outline(fits + more), config).empty()) fits += more;
    }
    EXPECT_THAT(WhyNotWhole(shape.outline(fits + 1), config), HasSubstr("too big"));
    RunOutline outline = shape.outline(fits);
    outline.env.emplace_back("ORCH_CA_PEM", std::string(8000, 'c'));
    const json object = PipelineRunOf(outline, config, Facts());
    const size_t bytes = object.dump().size();
    std::printf("%s: %u tasks of %zu KiB\n", shape.name, fits, bytes >> 10);
    EXPECT_LT(bytes + object["spec"]["pipelineSpec"].dump().size() + size_t{250} * fits, size_t{1400} << 10);
    EXPECT_GT(bytes, size_t{500} << 10);
  }
}

TEST(PipelineRunTest, WhetherItWouldBeTooBigIsSoonSaid) {
  EXPECT_THAT(WhyNotWhole(Outline(100'000), Pods()), HasSubstr("too big"));
  RunOutline outline = Outline(100'000);
  for (RunTask& task : outline.tasks)
    task.settings_json = absl::StrCat(R"({"labels": {"n": "x)", task.step_index, "\"}}");
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THAT(WhyNotWhole(outline, Pods()), HasSubstr("too big"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

TEST(PipelineRunTest, FiveHundredTasksAreRenderedSoon) {
  const auto began = std::chrono::steady_clock::now();
  const size_t bytes = PipelineRunOf(Outline(500), Pods(), Facts()).dump().size();
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began);
  std::printf("500 tasks rendered in %.1f ms, %zu KiB\n", static_cast<double>(took.count()) / 1000, bytes >> 10);
  EXPECT_LT(bytes, size_t{1} << 20);
}

TEST(TaskFateTest, APlaceIsOverWithItsPodAndNobodyComesForATaskThatIsOver) {
  TaskSeen seen;
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, ""), TaskFate::kGoesOn);
  EXPECT_EQ(FateOf(seen, /*run_over=*/true, ""), TaskFate::kNotStarted);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kGoesOn);
  EXPECT_EQ(FateOf(seen, /*run_over=*/true, "pod"), TaskFate::kPlaceOver);
  seen.pods["pod"] = PodView();
  EXPECT_EQ(FateOf(seen, /*run_over=*/true, "pod"), TaskFate::kGoesOn);  // it has not ended yet
  seen.pods["pod"].phase = "Failed";
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceOver);
  seen.task_run_gone = true;
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, ""), TaskFate::kNotStarted);
}

TEST(TaskFateTest, NothingIsGoneBeforeAllThereIsHasBeenListed) {
  PodView pod;
  pod.name = "p";
  pod.uid = "u";
  JobView run;
  run.name = "t";
  TaskSeen seen;
  seen.See(pod, false);
  seen.See(run, false);
  seen.SetListing(true);
  seen.SetListing(false);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "p/u"), TaskFate::kGoesOn);
  seen.See(pod, false);
  seen.SetListed(true);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "p/u"), TaskFate::kGoesOn);
  seen.See(run, false);
  seen.SetListed(false);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "p/u"), TaskFate::kGoesOn);
  seen.SetListing(true);
  seen.SetListed(true);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "p/u"), TaskFate::kPlaceTaken);
  seen.See(pod, false);
  seen.SetListing(false);
  seen.SetListed(false);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, ""), TaskFate::kNotStarted);
}

TEST(TaskFateTest, OfAPodThatWasTakenAwayTektonMayStillSayWhy) {
  TaskSeen seen;
  seen.pods_gone["pod"] = true;  // before this daemon looked
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceTaken);
  seen.pods["pod"] = PodView();
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceTaken);
  seen.pods_gone["pod"] = false;
  seen.pods["pod"].deleting = true;
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kGoesOn);
  seen.pods["pod"].phase = "Failed";
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceTaken);
  seen.task_run = JobView();
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceTaken);
  seen.task_run->failed = true;
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "pod"), TaskFate::kPlaceOver);
}

TEST(TaskFateTest, APodIsItsNameAndWhichOneOfThatName) {
  PodView pod;
  pod.name = "run-a-pod";
  pod.uid = "u1";
  EXPECT_EQ(PlaceOf(pod), "run-a-pod/u1");
  EXPECT_EQ(PodOf(PlaceOf(pod)), "run-a-pod");
  // Its TaskRun was deleted, and Tekton has made another one of that name, and a pod for it.
  pod.owner = "t1";
  pod.deleting = true;
  pod.phase = "Failed";
  TaskSeen seen;
  seen.pods[PlaceOf(pod)] = pod;
  seen.task_run = JobView();
  seen.task_run->uid = "t1";
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "run-a-pod/u1"), TaskFate::kPlaceTaken);
  seen.task_run->uid = "t2";
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "run-a-pod/u1"), TaskFate::kPlaceOver);
  EXPECT_TRUE(seen.MadeForAnother(pod));
  PodView second = pod;
  second.uid = "u2";
  second.owner = "t2";
  second.deleting = false;
  second.phase = "Running";
  seen.pods[PlaceOf(second)] = second;
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "run-a-pod/u2"), TaskFate::kGoesOn);
  EXPECT_EQ(FateOf(seen, /*run_over=*/false, "run-a-pod/u1"), TaskFate::kPlaceOver);
}

}  // namespace
}  // namespace orch::tekton
