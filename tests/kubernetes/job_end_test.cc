// What a pod's and a Job's status mean: pending, ends, each with a reason of its own.
#include "backends/kubernetes/job_end.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "backends/kubernetes/pending.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json PodJson(const std::string& status) {
  return {{"metadata",
           {{"name", "p"},
            {"uid", "u"},
            {"creationTimestamp", "2026-01-02T03:04:05Z"},
            {"labels", {{"orchd.io/key", "k"}}}}},
          {"spec", {{"nodeName", "n1"}, {"containers", json::array({{{"name", "main"}, {"image", "i:1"}}})}}},
          {"status", json::parse(status)}};
}
PodView Pod(const std::string& status) { return ReadPod(PodJson(status)); }
PodView Deleted(PodView pod) {
  pod.deleting = true;
  return pod;
}
std::string Ended(const std::string& phase, int code, const std::string& reason, const std::string& more = "") {
  return R"({"phase": ")" + phase +
         R"(", "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": )" + std::to_string(code) +
         R"(, "reason": ")" + reason +
         R"(", "startedAt": "2026-01-02T03:04:06Z", "finishedAt": "2026-01-02T03:04:07Z"}}}])" + more + "}";
}

TEST(Views, OfWhatIsNone) {
  EXPECT_EQ(ReadPod(json::parse(R"({"metadata": 1, "status": []})")).name, "");
  EXPECT_EQ(ReadPod(json()).phase, "");
  EXPECT_EQ(ReadJob(json::parse(R"({"metadata": {"labels": 3}})"), "a=b").ours, false);
}

TEST(Views, AJobIsOursByAllItsLabels) {
  const json job =
      json::parse(R"({"metadata": {"name": "j", "uid": "u", "labels": {"a": "1", "b": "2", "orchd.io/key": "k"}},
      "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}, {"type": "Complete", "status": "False"}]}})");
  EXPECT_TRUE(ReadJob(job, "a=1,b=2").ours);
  EXPECT_FALSE(ReadJob(job, "a=1,b=3").ours);
  EXPECT_TRUE(ReadJob(job, "a=1").failed);
  EXPECT_FALSE(ReadJob(job, "a=1").complete);
}

TEST(Pending, IsExplained) {
  const Pending full = PendingOf(Pod(R"({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
      "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]})"),
                                 60);
  EXPECT_EQ(full.reason, Reason::kUnschedulable);
  EXPECT_EQ(full.message, "no node takes it: 0/1 nodes are available: 1 Insufficient cpu.");
  EXPECT_LT(full.patience, 0);
  const auto waits = [](const std::string& reason, const char* list = "containerStatuses") {
    return PendingOf(
        Pod(R"({"phase": "Pending", ")" + std::string(list) +
            R"(": [{"name": "main", "state": {"waiting": {"reason": ")" + reason + R"(", "message": "words"}}}]})"),
        60);
  };
  EXPECT_EQ(waits("ImagePullBackOff").reason, Reason::kImagePullFailed);
  EXPECT_EQ(waits("ImagePullBackOff").message, "image i:1: ImagePullBackOff: words");
  EXPECT_EQ(waits("ErrImagePull").patience, 60'000'000);
  EXPECT_EQ(waits("InvalidImageName").patience, 0);
  EXPECT_EQ(waits("CreateContainerConfigError").reason, Reason::kUnschedulable);
  EXPECT_EQ(waits("ContainerCreating").reason, Reason::kNone);
  const auto inits = [](const std::string& name) {
    return PendingOf(Pod(R"({"phase": "Pending", "initContainerStatuses": [{"name": ")" + name +
                         R"(", "state": {"waiting": {"reason": "ErrImagePull", "message": "words"}}}]})"),
                     60);
  };
  EXPECT_EQ(inits("orch-launch").message, "its launcher's container: ErrImagePull: words");
  EXPECT_EQ(inits("fetch").message, "its init container fetch: ErrImagePull: words");
  EXPECT_EQ(inits("fetch").of, "fetch");
}

TEST(Pending, EventsSayTheRest) {
  EXPECT_EQ(WarningOf(json::parse(R"({"items": [
      {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota", "lastTimestamp": "2026-01-02T03:04:05Z"},
      {"type": "Normal", "reason": "X", "message": "y", "lastTimestamp": "2026-01-02T03:04:09Z"},
      {"type": "Warning", "reason": "Old", "message": "o", "lastTimestamp": "2026-01-02T03:04:01Z"}]})")),
            "FailedCreate: exceeded quota");
  EXPECT_EQ(WarningOf(json::parse("{}")), "");
}

AttemptEnd End(const PodView& pod, JobFate fate = {}) {
  const JobEnd out = EndOf(pod, JobView(), fate);
  EXPECT_FALSE(out.lost) << out.end.message;
  return out.end;
}

TEST(JobEnd, ExitCodesAndSignals) {
  const AttemptEnd good = End(Pod(Ended("Succeeded", 0, "Completed")));
  EXPECT_EQ(good.reason, Reason::kNone);
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_EQ(good.started_wall, 1767323046'000000);
  EXPECT_EQ(good.ended_wall, 1767323047'000000);
  EXPECT_EQ(End(Pod(Ended("Failed", 3, "Error"))).exit_code, 3);
  EXPECT_EQ(End(Pod(Ended("Failed", 139, "Error"))).signal, 11);
  EXPECT_EQ(End(Pod(Ended("Running", 3, "Error"))).exit_code, 3) << "a sidecar may still run";
}

TEST(JobEnd, AChildThatRanOutOfMemoryIsItsOwnBusiness) {
  EXPECT_EQ(End(Pod(Ended("Succeeded", 0, "OOMKilled"))).reason, Reason::kNone);
  EXPECT_EQ(End(Pod(Ended("Failed", 137, "OOMKilled"))).reason, Reason::kOutOfMemory);
}

TEST(JobEnd, WhatTookThePodAwayHasAReasonOfItsOwn) {
  const auto disrupted = [](const std::string& reason) {
    return End(Deleted(Pod(Ended("Failed", 143, "Error",
                                 R"(, "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": ")" +
                                     reason + R"(", "message": "words"}])"))))
        .reason;
  };
  EXPECT_EQ(disrupted("PreemptionByScheduler"), Reason::kPreempted);
  EXPECT_EQ(disrupted("DeletionByTaintManager"), Reason::kNodeLost);
  EXPECT_EQ(disrupted("DeletionByPodGC"), Reason::kNodeLost);
  EXPECT_EQ(disrupted("EvictionByEvictionAPI"), Reason::kEvicted);
  EXPECT_EQ(disrupted("TerminationByKubelet"), Reason::kEvicted);
  const AttemptEnd evicted =
      End(Pod(R"({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})"));
  EXPECT_EQ(evicted.reason, Reason::kEvicted);
  EXPECT_TRUE(evicted.never_started);
  EXPECT_THAT(evicted.message, HasSubstr("low on resource: memory"));
  EXPECT_EQ(End(Pod(Ended("Failed", 137, "Error", R"(, "reason": "DeadlineExceeded")"))).reason, Reason::kRunTimeout);
  EXPECT_EQ(End(Pod(R"({"phase": "Failed", "reason": "OutOfcpu"})")).reason, Reason::kUnschedulable);
  EXPECT_EQ(End(Pod(Ended("Failed", 128, "StartError"))).reason, Reason::kCommandNotFound);
  EXPECT_EQ(End(Pod(Ended("Failed", 137, "ContainerStatusUnknown"))).reason, Reason::kNodeLost);
  EXPECT_THAT(
      End(Pod(R"({"phase": "Failed", "initContainerStatuses": [{"name": "orch-launch", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]})"))
          .message,
      HasSubstr("launcher"));
}

TEST(JobEnd, AnInitContainerOfItsOwnIsTheStepsFailure) {
  const auto failed = [](const std::string& reason) {
    return End(
        Pod(R"({"phase": "Failed", "initContainerStatuses": [
        {"name": "orch-launch", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        {"name": "fetch", "state": {"terminated": {"exitCode": 3, "reason": ")" +
            reason +
            R"("}}}], "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}]})"));
  };
  const AttemptEnd end = failed("Error");
  EXPECT_EQ(end.reason, Reason::kExitCode);
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_TRUE(end.never_started);
  EXPECT_EQ(end.message, "its init container fetch: exit code 3, Error");
  EXPECT_EQ(failed("OOMKilled").reason, Reason::kOutOfMemory);
  EXPECT_THAT(failed("OOMKilled").message, HasSubstr("fetch"));
}

TEST(JobEnd, WhatWasDeletedByOthersIsLost) {
  JobFate fate;
  JobEnd end = EndOf(Deleted(Pod(Ended("Failed", 143, "Error"))), JobView(), fate);
  EXPECT_TRUE(end.lost);
  EXPECT_EQ(end.end.message, "its pod was deleted by somebody else");
  fate.job_gone = true;
  EXPECT_EQ(EndOf(Deleted(Pod(Ended("Failed", 143, "Error"))), std::nullopt, fate).end.message,
            "its Job was deleted by somebody else");
  EXPECT_TRUE(EndOf(std::nullopt, std::nullopt, fate).lost);
  fate.silent = true;
  EXPECT_THAT(EndOf(Deleted(Pod(R"({"phase": "Running"})")), JobView(), fate).end.message,
              HasSubstr("node does not say"));
}

TEST(JobEnd, WhatWeStoppedIsStopped) {
  JobFate fate;
  fate.stop_sent = true;
  EXPECT_TRUE(End(Deleted(Pod(Ended("Failed", 143, "Error"))), fate).stopped);
  EXPECT_FALSE(End(Pod(Ended("Succeeded", 0, "Completed")), fate).stopped) << "it was over before";
  const AttemptEnd never = EndOf(std::nullopt, std::nullopt, fate).end;
  EXPECT_TRUE(never.stopped && never.never_started);
  fate.over_limit = true;
  EXPECT_EQ(End(Deleted(Pod(Ended("Failed", 143, "Error"))), fate).reason, Reason::kLogLimit);
}

TEST(JobEnd, AJobWithoutItsPodIsJudgedByItself) {
  JobView job;
  job.complete = true;
  EXPECT_EQ(EndOf(std::nullopt, job, {}).end.exit_code, 0);
  job.complete = false;
  job.failed = true;
  job.reason = "BackoffLimitExceeded";
  const JobEnd end = EndOf(std::nullopt, job, {});
  EXPECT_TRUE(end.lost);
  EXPECT_THAT(end.end.message, HasSubstr("BackoffLimitExceeded"));
}

}  // namespace
}  // namespace orch::kubernetes
