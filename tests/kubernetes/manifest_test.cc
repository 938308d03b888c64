// A step as a Job: by golden JSON, and what is refused of settings, all at once.
#include "backends/kubernetes/manifest.h"

#include <gmock/gmock.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "backends/kubernetes/pod_schema.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

AttemptWork Work() {
  AttemptWork work;
  work.name = {"abcdefghij234567abcd", "default", "0190-run", "Digits_1", "train[2]", 4, 3, ""};
  work.command = {"/.orch/bin/orch-launch", "run"};
  work.env = {{"ORCH_ENDPOINT", "https://10.0.0.1:7434"}, {"ORCH_TOKEN", "tiger"}, {"ORCH_STEP", "a $(HOME) b"}};
  work.working_dir = "/";
  work.grace_micros = 2'500'000;
  work.resources.cpu_millis = 1500;
  work.resources.memory = 1 << 30;
  work.resources.gpu = 2;
  return work;
}

JobFacts Facts(const Config& config, const std::string& settings = "{}") {
  JobFacts facts;
  facts.instance = "4f2b";
  facts.orchestrator = "k8s";
  facts.image = "python:3.11";
  std::vector<Violation> faults;
  facts.settings = ReadSettings(config.settings, settings, &faults);
  EXPECT_TRUE(faults.empty()) << faults[0].field << ": " << faults[0].description;
  return facts;
}

Config ConfigOf(const std::string& text) {
  const auto config = ReadConfig(text);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : Config();
}

std::vector<std::string> Faults(const absl::Status& status) {
  std::vector<std::string> out;
  for (const Violation& fault : ViolationsOf(status)) out.push_back(absl::StrCat(fault.field, " ", fault.description));
  return out;
}

TEST(JobName, IsADnsLabelThatFollowsFromTheAttempt) {
  EXPECT_EQ(JobName(Work().name), "digits-1-train-2-3-abcdefghij234567abcd");
  AttemptName name = Work().name;
  name.run_name = std::string(100, 'R') + "--";
  name.step = "__" + std::string(100, 's') + "[17]";
  name.attempt = 1234;
  const std::string longest = JobName(name);
  EXPECT_EQ(longest.size(), 63u) << longest;
  EXPECT_EQ(longest, absl::StrCat(std::string(20, 'r'), "-", std::string(16, 's'), "-1234-abcdefghij234567abcd"));
  name.run_name = "Ä";
  name.step = "[]";
  EXPECT_EQ(JobName(name), "x-x-1234-abcdefghij234567abcd");
}

TEST(LabelValue, OfOrchestratorsThatAreNotTheSameIsNotTheSame) {
  EXPECT_EQ(UniqueLabelValue("gpu-2.x_1"), "gpu-2.x_1");
  const std::string longest(63, 'a');
  EXPECT_EQ(UniqueLabelValue(longest), longest);
  std::set<std::string> seen;
  const std::vector<std::string> names = {"gpu",   "gpu-",        "gpu_",        "gpu.",        "gpu--",
                                          longest, longest + "b", longest + "c", longest + "-", std::string(200, 'a'),
                                          "-gpu",  "---"};
  for (const std::string& name : names) {
    const std::string value = UniqueLabelValue(name);
    EXPECT_TRUE(seen.insert(value).second) << name << " " << value;
    EXPECT_EQ(LabelValue(value), value) << "a label can hold it";
    EXPECT_LE(value.size(), 63U);
    EXPECT_THAT(LabelSelector("i", name), HasSubstr("=" + value));
    JobFacts facts;
    facts.orchestrator = name;
    EXPECT_EQ(JobOf(Work(), Config(), facts)["metadata"]["labels"][kOrchestratorLabel], value);
  }
}

TEST(Manifest, OfAPlainStep) {
  const Config config =
      ConfigOf(R"({"launcher_image": "orchd-launch:1", "pull": "missing", "cpu_request_percent": 10})");
  const json job = JobOf(Work(), config, Facts(config));
  const json expected = json::parse(R"({
    "apiVersion": "batch/v1", "kind": "Job",
    "metadata": {"name": "digits-1-train-2-3-abcdefghij234567abcd",
      "labels": {"app.kubernetes.io/managed-by": "orchd", "orchd.io/attempt": "3", "orchd.io/instance": "4f2b",
        "orchd.io/key": "abcdefghij234567abcd", "orchd.io/orchestrator": "k8s", "orchd.io/run": "Digits_1", "orchd.io/step": "train-2"},
      "annotations": {"orchd.io/run": "Digits_1", "orchd.io/run-id": "0190-run", "orchd.io/step": "train[2]"}},
    "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 0, "ttlSecondsAfterFinished": 86400,
      "template": {
        "metadata": {
          "labels": {"app.kubernetes.io/managed-by": "orchd", "orchd.io/attempt": "3", "orchd.io/instance": "4f2b",
            "orchd.io/key": "abcdefghij234567abcd", "orchd.io/orchestrator": "k8s", "orchd.io/run": "Digits_1", "orchd.io/step": "train-2"},
          "annotations": {"orchd.io/run": "Digits_1", "orchd.io/run-id": "0190-run", "orchd.io/step": "train[2]"}},
        "spec": {"restartPolicy": "Never", "enableServiceLinks": false, "automountServiceAccountToken": false,
          "terminationGracePeriodSeconds": 8,
          "initContainers": [{"name": "orch-launch", "image": "orchd-launch:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/usr/bin/orch-launch", "install", "/.orch/bin"],
            "resources": {"limits": {"cpu": "1500m", "memory": "1073741824"}, "requests": {"cpu": "150m", "memory": "1073741824"}},
            "volumeMounts": [{"name": "orch-bin", "mountPath": "/.orch/bin"}]}],
          "containers": [{"name": "main", "image": "python:3.11", "imagePullPolicy": "IfNotPresent",
            "command": ["/.orch/bin/orch-launch", "run"], "workingDir": "/",
            "env": [{"name": "ORCH_ENDPOINT", "value": "https://10.0.0.1:7434"},
              {"name": "ORCH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "digits-1-train-2-3-abcdefghij234567abcd", "key": "token"}}},
              {"name": "ORCH_STEP", "value": "a $$(HOME) b"}, {"name": "ORCH_STREAMS", "value": "one"},
              {"name": "ORCH_OWN_CGROUP", "value": "1"}],
            "resources": {"limits": {"cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2"},
              "requests": {"cpu": "150m", "memory": "1073741824"}},
            "volumeMounts": [{"name": "orch-work", "mountPath": "/.orch/work"},
              {"name": "orch-bin", "mountPath": "/.orch/bin", "readOnly": true}]}],
          "volumes": [{"name": "orch-work", "emptyDir": {}}, {"name": "orch-bin", "emptyDir": {}}]}}}})");
  EXPECT_EQ(job, expected) << json::diff(expected, job).dump(1);
  EXPECT_THAT(job.dump(), Not(HasSubstr("tiger")));
  const json secret = SecretOf(Work(), Facts(config));
  EXPECT_EQ(secret["metadata"]["name"], job["metadata"]["name"]);
  EXPECT_EQ(secret["stringData"], json({{"token", "tiger"}}));
}

TEST(Manifest, OfEverySetting) {
  const Config config =
      ConfigOf(R"({"node_selector": {"pool": "a", "zone": "z"}, "labels": {"team": "x"}, "env": {"A": "1"},
      "tolerations": [{"key": "k", "operator": "Exists"}], "pod_template": {"spec": {"dnsPolicy": "None"}}})");
  const json job = JobOf(Work(), config, Facts(config, R"({
      "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}]}}},
      "annotations": {"note": "n"}, "env": {"B": {"secretKeyRef": {"name": "s", "key": "k"}}, "A": "2 $(B) x"
}
, "env_from" : [ {"configMapRef" : {"name" : "c"}} ],
               "image_pull_secrets" : ["reg"],
                                      "labels" : {"who" : "me"},
                                                 "node_selector" : {"pool" : "b"},
                                                                   "pod_security_context" : {"fsGroup" : 1000},
                                                                                            "priority_class"
    : "high",
      "resources" : {"limits" : {"ephemeral-storage" : "1Gi"}},
                    "runtime_class" : "nvidia",
                                      "scheduler" : "other",
                                                    "security_context"
    : {"runAsUser" : 1000, "capabilities" : {"drop" : ["ALL"]}},
      "service_account" : "steps",
                          "shm_size" : "1Gi",
                                       "tolerations" : [],
                                                       "topology_spread"
    : [ {"maxSkew" : 1, "topologyKey" : "zone", "whenUnsatisfiable" : "ScheduleAnyway"} ],
      "volumes" : [ {"name" : "data", "persistentVolumeClaim" : {"claimName" : "p"}} ],
                  "volume_mounts" : [ {"name" : "data", "mountPath" : "/data", "readOnly" : true} ],
                                    "pod_template" : {
  "metadata" : {"annotations" : {"more" : "m"}}, "spec" : {
    "hostNetwork" : true, "containers" : [ {"name" : "main", "tty" : true}, {"name" : "side", "image" : "s:1"} ]
  }
}
})"));
  const json& pod = job["spec"]["template"]["spec"];
  const json& main = pod["containers"][0];
  EXPECT_EQ(pod["nodeSelector"], json({{"pool", "b"}, {"zone", "z"}}));
  EXPECT_EQ(pod["tolerations"], json::array()) << "a step's list takes the place of its orchestrator's";
  EXPECT_EQ(pod["dnsPolicy"], "None");
  EXPECT_EQ(pod["hostNetwork"], true);
  EXPECT_EQ(pod["containers"][1], json({{"name", "side"}, {"image", "s:1"}}));
  EXPECT_EQ(main["tty"], true);
  EXPECT_EQ(main["image"], "python:3.11") << "what the patch does not say stays";
  EXPECT_EQ(main["env"][3], json({{"name", "ORCH_STREAMS"}, {"value", "one"}}));
  EXPECT_EQ(main["env"][5], json({{"name", "A"}, {"value", "2 $(B) x"}}));
  EXPECT_EQ(main["env"][6]["valueFrom"]["secretKeyRef"]["name"], "s");
  EXPECT_EQ(main["envFrom"][0]["configMapRef"]["name"], "c");
  EXPECT_EQ(main["resources"]["limits"]["ephemeral-storage"], "1Gi");
  EXPECT_EQ(main["securityContext"]["runAsUser"], 1000);
  EXPECT_EQ(main["volumeMounts"][2]["mountPath"], "/data");
  EXPECT_EQ(main["volumeMounts"][1]["mountPath"], "/dev/shm");
  EXPECT_EQ(pod["volumes"][1]["emptyDir"]["medium"], "Memory");
  EXPECT_EQ(pod["imagePullSecrets"], json::array({{{"name", "reg"}}}));
  EXPECT_EQ(pod["automountServiceAccountToken"], true);
  for (const char* field : {"affinity", "priorityClassName", "runtimeClassName", "schedulerName", "serviceAccountName",
                            "securityContext", "topologySpreadConstraints"}) {
    EXPECT_TRUE(pod.contains(field)) << field;
  }
  EXPECT_FALSE(pod.contains("initContainers")) << "its image has the launcher";
  EXPECT_EQ(job["metadata"]["labels"]["team"], "x");
  EXPECT_EQ(job["metadata"]["labels"]["who"], "me");
  EXPECT_EQ(job["spec"]["template"]["metadata"]["annotations"]["more"], "m");
}

TEST(Settings, AreRefusedWithAllFaultsAtOnce) {
  std::vector<Violation> faults;
  (void)ReadSettings(Settings(),
                     R"({"affinity": 1, "node_selector": {"a b": "c"}, "labels": {"orchd.io/key": "x", "l": "-"},
      "tolerations": [{"kee": "k"}], "env": {"ORCH_TOKEN": "t", "X": 3}, "volumes": [{"name": "orch-bin", "emptyDir": {}}],
      "security_context": {"runAsUser": "root"}, "shm_size": "much", "nonsense": 1, "image_pull_secrets": "s",
      "pod_template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "main", "command": ["x"]}, {"$patch": "replace"}],
        "volumes": [{"$patch": "replace"}]}}})",
                     &faults);
  std::vector<std::string> found;
  for (const Violation& fault : faults) found.push_back(fault.field);
  EXPECT_THAT(found, ElementsAre("affinity", "env.ORCH_TOKEN", "env.X", "image_pull_secrets", "labels.l",
                                 "labels.orchd.io/key", "node_selector.a b", "nonsense",
                                 "pod_template.spec.restartPolicy", "pod_template.spec.containers[0].command",
                                 "pod_template.spec.containers[1].$patch", "pod_template.spec.volumes[0]",
                                 "security_context.runAsUser", "shm_size", "tolerations[0].kee", "volumes[0].name"));
}

TEST(Settings, NothingThatTheDaemonNeedsIsTakenAway) {
  for (
      const char* patch :
      {R"({"metadata": null})", R"({"spec": null})", R"({"$patch": "delete"})", R"({"metadata": {"labels": null}})",
       R"({"metadata": {"labels": {"$patch": "replace"}}})", R"({"metadata": {"$patch": "replace"}})",
       R"({"spec": {"containers": null}})", R"({"spec": {"volumes": null}})",
       R"({"spec": {"containers": [{"name": "main", "env": null}]}})",
       R"({"spec": {"containers": [{"name": "main", "env": [{"$patch": "replace"}]}]}})",
       R"({"spec": {"containers": [{"name": "main", "env": [{"name": null}]}]}})",
       R"({"spec": {"containers": [{"name": "main", "volumeMounts": [{"mountPath": null, "name": "x"}]}]}})",
       R"({"spec": {"containers": [{"name": "main", "env": [{"name": "ORCH_TOKEN", "$patch": "delete"}]}]}})",
       R"({"spec": {"containers": [{"name": "main", "volumeMounts": [{"mountPath": "/.orch/work", "name": "x"}]}]}})"}) {
    std::vector<Violation> faults;
    (void)ReadSettings(Settings(), absl::StrCat(R"({"pod_template": )", patch, "}"), &faults);
    EXPECT_FALSE(faults.empty()) << patch;
  }
  std::vector<Violation> faults;
  (void)ReadSettings(Settings(), R"({"pod_template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers":
      [{"name": "main", "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"mountPath": "/x", "name": "y"}]}]}}})",
                     &faults);
  EXPECT_TRUE(faults.empty());
}

TEST(Config, IsRefusedWithAllFaultsAtOnce) {
  const auto config =
      ReadConfig(R"({"kubeconfig": "relative", "endpoint": "ftp://x", "pull": "perhaps", "cpu_request_percent": 0,
      "ttl_seconds": 1, "image_seconds": "x", "gpus": -1, "memory": "lots", "custom": 3, "unknown": 1, "tolerations": {}})");
  EXPECT_THAT(
      Faults(config.status()),
      ElementsAre(HasSubstr("config.cpu_request_percent"), HasSubstr("config.custom"), HasSubstr("config.endpoint"),
                  HasSubstr("config.gpus"), HasSubstr("config.image_seconds"), HasSubstr("config.kubeconfig"),
                  HasSubstr("config.memory"), HasSubstr("config.pull"), HasSubstr("config.tolerations"),
                  HasSubstr("config.ttl_seconds"), HasSubstr("config.unknown")));
  EXPECT_THAT(Faults(ReadConfig("[]").status()), ElementsAre(HasSubstr("mapping")));
}

TEST(PodSchema, MergesAsKubectlDoes) {
  json base =
      json::parse(R"({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p"]},
      {"name": "b"}], "nodeSelector": {"k": "v", "l": "w"}, "tolerations": [{"key": "t"}], "hostIPC": true})");
  MergePod(
      "PodSpec",
      json::parse(R"({"containers": [{"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}],
      "args": ["q"]}, {"name": "b", "$patch": "delete"}, {"name": "c", "$patch": "merge"}], "nodeSelector": {"k": null, "m": "n"},
      "tolerations": [{"key": "u"}], "hostIPC": null, "securityContext": {"runAsUser": 1, "$patch": "replace"}})"),
      &base);
  EXPECT_EQ(base, json::parse(R"({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "2"},
      {"name": "Y", "value": "3"}], "args": ["q"]}, {"name": "c"}], "nodeSelector": {"l": "w", "m": "n"}, "tolerations": [{"key": "u"}],
      "securityContext": {"runAsUser": 1}})"));
}

TEST(PodSchema, KnowsTypesAndKeys) {
  std::vector<Fault> faults;
  CheckPod(
      json::parse(
          R"({"containers": [{"image": "x"}, {"name": "a"}, {"name": "a"}], "priority": 1.5, "overhead": {"cpu": "1x"},
      "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi", "medium": 3}}], "hostNetwork": "yes", "nodeName": null,
      "$retainKeys": []})"),
      "PodSpec", "spec", false, &faults);
  std::vector<std::string> fields;
  for (const Fault& fault : faults) fields.push_back(fault.field);
  EXPECT_THAT(fields,
              ElementsAre("spec.$retainKeys", "spec.containers[0].name", "spec.containers[2].name", "spec.hostNetwork",
                          "spec.nodeName", "spec.overhead.cpu", "spec.priority", "spec.volumes[0].emptyDir.medium"));
  for (const char* good : {"\"500m\"", "2", "\"1.5Gi\"", "\"1e3\"", "\"12E\""}) {
    faults.clear();
    CheckPod(json::parse(good), "q", "", false, &faults);
    EXPECT_TRUE(faults.empty()) << good;
  }
  for (const char* bad : {"\"\"", "-1", "\"1.2.3\"", "\"1e\"", "\"Gi\"", "true"}) {
    faults.clear();
    CheckPod(json::parse(bad), "q", "", false, &faults);
    EXPECT_EQ(faults.size(), 1u) << bad;
  }
  json deep = json::object();
  for (int i = 0; i < 200; ++i) deep = {{"spec", deep}};
  faults.clear();
  CheckPod(deep, "PodTemplateSpec", "", false, &faults);
  EXPECT_FALSE(faults.empty());
}

}  // namespace
}  // namespace orch::kubernetes
