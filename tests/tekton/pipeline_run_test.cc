// A whole run as a PipelineRun, and the fate of its tasks.
#include "backends/tekton/pipeline_run.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "backends/tekton/task_fate.h"

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

TEST(PipelineRunTest, OneThatWouldBeTooBigGoesStepByStep) {
  EXPECT_THAT(WhyNotWhole(Outline(100'000), Pods()), HasSubstr("too big"));
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
