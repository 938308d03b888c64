// A pod's template as what Tekton makes pods from, and what it has no place for.
#include "backends/tekton/task.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "backends/tekton/config.h"
#include "backends/tekton/task_run.h"

namespace orch::tekton {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

kubernetes::Config ConfigOf(const std::string& text) {
  const auto config = ReadConfig(text);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->pods : kubernetes::Config();
}

AttemptWork Work() {
  AttemptWork work;
  work.name = {"abcdefghij234567abcd", "default", "0190-run", "Digits_1", "train[2]", 4, 3, ""};
  work.command = {"/.orch/bin/orch-launch", "run"};
  work.env = {{"ORCH_ENDPOINT", "https://10.0.0.1:7434"}, {"ORCH_TOKEN", "tiger"}, {"ORCH_STEP", "a $(HOME) b"}};
  work.working_dir = "/";
  work.resources.cpu_millis = 1500;
  work.resources.memory = 1 << 30;
  work.resources.gpu = 2;
  return work;
}

kubernetes::JobFacts Facts(const kubernetes::Config& config, const std::string& settings = "{}") {
  kubernetes::JobFacts facts;
  facts.instance = "4f2b";
  facts.orchestrator = "tekton";
  facts.image = "python:3.11";
  std::vector<Violation> faults;
  facts.settings = kubernetes::ReadSettings(config.settings, settings, &faults);
  EXPECT_THAT(faults, IsEmpty());
  return facts;
}

std::vector<std::string> FaultsOf(const std::string& settings) {
  const kubernetes::Config config = ConfigOf("{}");
  const kubernetes::JobFacts facts = Facts(config, settings);
  json pod = kubernetes::PodTemplateOf(Work(), config, facts);
  kubernetes::PatchPod(facts.settings, &pod);
  std::vector<Violation> faults;
  (void)TaskOf(pod, &faults);
  std::vector<std::string> out;
  for (const Violation& fault : faults) out.push_back(absl::StrCat(fault.field, " ", fault.description));
  return out;
}

TEST(TaskRun, IsATaskOfTwoStepsThatRunsOnceAndForAsLongAsItTakes) {
  const kubernetes::Config config = ConfigOf(R"({"launcher_image": "l:1", "service_account": "steps"})");
  const json run = TaskRunOf(Work(), config, Facts(config, R"({"node_selector": {"pool": "a"}, "shm_size": "1Gi"})"));
  EXPECT_EQ(run["kind"], "TaskRun");
  EXPECT_EQ(run["metadata"]["name"], "digits-1-train-2-3-abcdefghij234567abcd");
  EXPECT_EQ(run["metadata"]["labels"]["orchd.io/key"], "abcdefghij234567abcd");
  const json& spec = run["spec"];
  EXPECT_EQ(spec["timeout"], "0s");
  EXPECT_EQ(spec["retries"], 0);
  EXPECT_EQ(spec["serviceAccountName"], "steps");
  EXPECT_EQ(spec["podTemplate"]["nodeSelector"], json({{"pool", "a"}}));
  EXPECT_EQ(spec["podTemplate"]["enableServiceLinks"], false);
  const json& steps = spec["taskSpec"]["steps"];
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0]["name"], "launcher");
  EXPECT_EQ(steps[0]["command"], json({"/usr/bin/orch-launch", "install", "/.orch/bin"}));
  EXPECT_EQ(steps[0]["computeResources"]["requests"], json({{"cpu", "10m"}, {"memory", "16Mi"}}));
  EXPECT_EQ(steps[1]["name"], "main");
  EXPECT_EQ(steps[1]["command"], json({"/.orch/bin/orch-launch", "run"}));
  EXPECT_EQ(steps[1]["computeResources"]["limits"]["nvidia.com/gpu"], "2");
  EXPECT_FALSE(steps[1].contains("resources"));
  EXPECT_EQ(spec["taskSpec"]["volumes"].size(), 3U);
  EXPECT_THAT(run.dump(), Not(HasSubstr("tiger")));
  EXPECT_THAT(run.dump(), HasSubstr("a $$(HOME) b"));
}

TEST(TaskRun, FurtherContainersAreSidecars) {
  const kubernetes::Config config = ConfigOf("{}");
  const json run = TaskRunOf(Work(), config, Facts(config, R"({"pod_template": {"spec": {"containers": [
      {"name": "proxy", "image": "p:1", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}]}]}}})"));
  const json& sidecars = run["spec"]["taskSpec"]["sidecars"];
  ASSERT_EQ(sidecars.size(), 1U);
  EXPECT_EQ(sidecars[0]["computeResources"]["limits"]["cpu"], "1");
  EXPECT_EQ(run["spec"]["taskSpec"]["steps"].size(), 1U) << "no launcher image, no step that brings it";
}

TEST(Task, WhatTektonHasNoPlaceForIsSaidAllAtOnce) {
  const std::string settings = R"j({"pod_template": {"metadata": {"labels": {"tekton.dev/x": "y"}}, "spec": {
      "hostPID": true, "initContainers": [{"name": "own", "image": "i:1"}],
      "containers": [{"name": "main", "livenessProbe": {"periodSeconds": 3}}]}},
      "env": {"A": "$(params.x)",
                    "B" : "$(date)"
}
})j";
  EXPECT_THAT(FaultsOf(settings),
              ElementsAre(HasSubstr("metadata.labels.tekton.dev/x is Tekton's own"),
                          HasSubstr("spec.initContainers[0] a task of Tekton's has no init containers"),
                          HasSubstr("spec.containers[0].livenessProbe is nothing that a step"),
                          HasSubstr("spec.hostPID Tekton's pods cannot be given it; there are affinity"),
                          HasSubstr("has `$(params.`, which Tekton takes for its own")));
  EXPECT_THAT(FaultsOf("{}"), IsEmpty());
}

TEST(TektonConfig, IsThatOfKubernetesAndMore) {
  const auto config = ReadConfig(R"({"dashboard": "https://t.example.org/", "image": "i:1"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pods.url, "https://t.example.org/#/namespaces/{namespace}/taskruns/{job}");
  EXPECT_EQ(config->pods.image, "i:1");
  const auto bad = ReadConfig(R"({"dashboard": "t.example.org", "url": "x", "ttl_seconds": 60, "nonsense": 1})");
  std::vector<std::string> fields;
  for (const Violation& fault : ViolationsOf(bad.status())) fields.push_back(fault.field);
  EXPECT_THAT(fields, ElementsAre("config.dashboard", "config.url", "config.ttl_seconds", "config.nonsense"));
  EXPECT_FALSE(ReadConfig("[]").ok());
  const json schema = json::parse(ConfigSchema());
  EXPECT_TRUE(schema["properties"].contains("dashboard") && schema["properties"].contains("launcher_image"));
  EXPECT_FALSE(schema["properties"].contains("url"));
}

}  // namespace
}  // namespace orch::tekton
