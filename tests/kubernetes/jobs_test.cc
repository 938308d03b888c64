// The hands: what is asked of a cluster that answers late, twice, wrongly or not at all, and what is told of it.
#include "backends/kubernetes/jobs.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/kubernetes/scripted_cluster.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kSecond = 1'000'000;
constexpr char kKey[] = "abcdefghij234567abcd";
const AttemptName kName = {kKey, "default", "0190-run", "digits-1", "train", 4, 1, ""};

json Labelled(const char* name, const char* uid) {
  return {{"metadata",
           {{"name", name},
            {"uid", uid},
            {"creationTimestamp", "2026-01-02T03:04:05Z"},
            {"labels", {{"orchd.io/instance", "4f2b"}, {"orchd.io/orchestrator", "k8s"}, {"orchd.io/key", kKey}}}}}};
}
json JobJson() { return Labelled(JobName(kName).c_str(), "j1"); }
json PodJson(const std::string& main, const char* uid = "p1", const std::string& launcher = "") {
  json out = Labelled("pod", uid);
  json status = {{"phase", "Pending"},
                 {"containerStatuses", json::array({{{"name", "main"}, {"state", json::parse(main)}}})}};
  if (!launcher.empty()) {
    status["initContainerStatuses"] = json::array({{{"name", "orch-launch"}, {"state", json::parse(launcher)}}});
  }
  out["status"] = status;
  return out;
}
constexpr char kRunning[] = R"({"running": {"startedAt": "2026-01-02T03:04:06Z"}})";
constexpr char kNoImage[] = R"({"waiting": {"reason": "ErrImagePull", "message": "no such image"}})";
constexpr char kWaits[] = R"({"waiting": {"reason": "PodInitializing"}})";
constexpr char kBrought[] = R"({"terminated": {"exitCode": 0}})";

class JobsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.kubeconfig = cluster_.file();
    config_.image = "i:1";
    jobs_ = std::make_unique<Jobs>(&cluster_.context, &config_, &JobsOfKubernetes(), cluster_.dial({"/jobs", "/pods"}));
    jobs_->Connect(&cluster_.listener);
  }

  ClusterLink* link() { return &jobs_->link(); }
  ScriptedTransport& script() { return cluster_.script(); }
  void Adopt(std::vector<KnownAttempt> known = {}) {
    jobs_->Adopt(known);
    cluster_.Settle(link());
  }
  void Begin() {
    AttemptWork work;
    work.name = kName;
    work.workspace.root = "/w";
    work.command = {"orch-launch", "run"};
    work.env = {{"ORCH_TOKEN", "tiger"}};
    work.log_limit_bytes = limit_;
    jobs_->Begin(work);
    cluster_.Settle(link());
  }
  // It has its Job and its Secret.
  void Live() {
    Adopt();
    script().Expect("POST", "/jobs", 201, JobJson().dump());
    script().Expect("POST", "/secrets", 201, "{}");
    Begin();
    EXPECT_THAT(told(), ElementsAre("accepted: j1"));
  }
  void Tell(const std::string& kind, const std::string& type, const json& object) {
    cluster_.Tell(kind, type, object);
    cluster_.Settle(link());
  }
  void Answer(const std::string& part, int status, const std::string& body) {
    HttpAnswer answer;
    answer.status = status;
    answer.body = body;
    script().End(cluster_.Last(part), answer);
    cluster_.Settle(link());
  }
  const std::vector<std::string>& told() { return cluster_.listener.told; }
  std::vector<std::string> Deletes() { return cluster_.Asked("DELETE "); }

  ScriptedCluster cluster_;
  Config config_;
  int64_t limit_ = 0;
  std::unique_ptr<Jobs> jobs_;
};

TEST_F(JobsTest, ItsPodsAreListedOnceItHasItsSecret) {
  KnownAttempt known;
  known.name = kName;
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
  script().Expect("PATCH", "/secrets/", 200, "{}").open = true;
  Adopt({known});
  EXPECT_THAT(cluster_.Asked("/pods?labelSelector"), IsEmpty());
  // In an answer of before there would be no pod.
  Tell("/pods", "ADDED", PodJson(kRunning));
  script().Expect("GET", "/pods?labelSelector", 200, json({{"items", json::array({PodJson(kRunning)})}}).dump());
  script().Expect("GET", "/log", 200).open = true;
  Answer("PATCH ", 200, "{}");
  EXPECT_THAT(told(), ElementsAre("accepted: j1", "started: pod"));
  EXPECT_THAT(cluster_.Asked("/pods?labelSelector"), SizeIs(1));
}

TEST_F(JobsTest, ACancelWhileItIsMadeStopsWhatIsMade) {
  Adopt();
  script().Expect("POST", "/jobs", 201).open = true;
  Begin();
  jobs_->Cancel(kKey, false);
  cluster_.Relist(link(), "/pods");  // it is back
  EXPECT_THAT(Deletes(), IsEmpty()) << "of what nobody knows";
  script().Expect("POST", "/secrets", 201, "{}");
  script().Expect("DELETE", "/jobs/", 409, R"({"kind": "Status", "reason": "Conflict"})");
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
  script().Expect("GET", "/pods?labelSelector", 200, R"({"items": []})");
  script().Expect("DELETE", "/jobs/", 200, "{}");
  Answer("POST ", 201, JobJson().dump());
  EXPECT_THAT(Deletes(), SizeIs(2)) << "what was refused is asked again";
  EXPECT_THAT(script().seen[cluster_.Last("DELETE ")].request.body, HasSubstr(R"("uid":"j1")"));
  EXPECT_THAT(told(), ElementsAre("accepted: j1"));
}

TEST_F(JobsTest, WhatWasMadeForOneThatIsReleasedIsRemoved) {
  Adopt();
  script().Expect("POST", "/jobs", 201).open = true;
  Begin();
  Tell("/jobs", "ADDED", JobJson());  // before the answer
  script().Expect("DELETE", "/jobs/", 200, "{}");
  jobs_->Forget(kKey);
  cluster_.Settle(link());
  EXPECT_THAT(Deletes(), SizeIs(1));
}

TEST_F(JobsTest, WhatComesAfterACancelFoundNothingIsRemoved) {
  Adopt();
  script().Expect("POST", "/jobs", 409, R"({"kind": "Status", "reason": "AlreadyExists"})");
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 404).open = true;
  Begin();
  jobs_->Cancel(kKey, false);
  script().Expect("GET", "/pods?labelSelector", 200, R"({"items": []})");
  Answer(absl::StrCat("/jobs/", JobName(kName)), 404, "{}");
  ASSERT_THAT(cluster_.listener.ends, SizeIs(1));
  EXPECT_TRUE(cluster_.listener.ends[0].stopped && cluster_.listener.ends[0].never_started);
  script().Expect("DELETE", "/jobs/", 200, "{}");
  Tell("/jobs", "ADDED", JobJson());  // of an answer that was lost
  EXPECT_THAT(Deletes(), SizeIs(1));
}

TEST_F(JobsTest, AStopThatAFormerClientAskedForIsAskedForAgain) {
  Live();
  script().Expect("GET", "/log?", 200).open = true;
  Tell("/pods", "ADDED", PodJson(kRunning));
  script().Expect("DELETE", "/jobs/", 200).open = true;
  jobs_->Cancel(kKey, false);
  cluster_.Settle(link());
  EXPECT_THAT(Deletes(), SizeIs(1));
  cluster_.Renew("second");
  cluster_.Lists("/jobs", json::array({JobJson()}));
  cluster_.Lists("/pods", json::array({PodJson(kRunning)}));
  link()->Connect();
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
  script().Expect("GET", "/pods?labelSelector", 200, json({{"items", json::array({PodJson(kRunning)})}}).dump());
  script().Expect("GET", "/log?", 200).open = true;
  script().Expect("DELETE", "/jobs/", 200, "{}");
  cluster_.Settle(link());
  EXPECT_THAT(Deletes(), SizeIs(1)) << "of this client";
  cluster_.Relist(link(), "/pods");
  EXPECT_THAT(Deletes(), SizeIs(1));
}

TEST_F(JobsTest, APullThatWasOvercomeIsForgotten) {
  Live();
  Tell("/pods", "ADDED", PodJson(kWaits, "p1", kNoImage));
  cluster_.Pass(link(), 50 * kSecond);
  Tell("/pods", "MODIFIED", PodJson(kWaits, "p1", kBrought));
  EXPECT_EQ(told().back(), "pending: ");
  cluster_.Pass(link(), 20 * kSecond);
  EXPECT_THAT(cluster_.listener.ends, IsEmpty());
  Tell("/pods", "MODIFIED", PodJson(kWaits, "p1", kNoImage));
  cluster_.Pass(link(), 50 * kSecond);
  Tell("/pods", "MODIFIED", PodJson(kNoImage, "p1", kBrought));
  cluster_.Pass(link(), 50 * kSecond);
  EXPECT_THAT(cluster_.listener.ends, IsEmpty()) << "each container has its own time";
  cluster_.Pass(link(), 11 * kSecond);
  ASSERT_THAT(cluster_.listener.ends, SizeIs(1));
  EXPECT_EQ(cluster_.listener.ends[0].reason, Reason::kImagePullFailed);
}

TEST_F(JobsTest, AnotherClientWaitsForWhatTheFormerOneDid) {
  Live();
  Tell("/pods", "ADDED", PodJson(kNoImage));
  cluster_.Pass(link(), 30 * kSecond);
  cluster_.Renew("second");
  cluster_.Lists("/jobs", json::array({JobJson()}));
  cluster_.Lists("/pods", json::array({PodJson(kNoImage)}));
  link()->Connect();
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
  script().Expect("GET", "/pods?labelSelector", 200, json({{"items", json::array({PodJson(kNoImage)})}}).dump());
  cluster_.Settle(link());
  cluster_.Pass(link(), 20 * kSecond);
  EXPECT_THAT(cluster_.listener.ends, IsEmpty());
  cluster_.Pass(link(), 11 * kSecond);
  ASSERT_THAT(cluster_.listener.ends, SizeIs(1));
  EXPECT_EQ(cluster_.listener.ends[0].reason, Reason::kImagePullFailed);
}

TEST_F(JobsTest, APodOnALostNodeIsNotWaitedForForEverThoughTheClientIsAnother) {
  Live();
  Tell("/pods", "ADDED", PodJson(kRunning));
  json leaving = PodJson(kRunning);
  leaving["metadata"]["deletionTimestamp"] = "2026-01-02T03:05:05Z";
  leaving["metadata"]["deletionGracePeriodSeconds"] = 5;
  Tell("/pods", "MODIFIED", leaving);
  cluster_.Renew("second");
  cluster_.Lists("/jobs", json::array({JobJson()}));
  cluster_.Lists("/pods", json::array({leaving}));
  link()->Connect();
  for (int i = 0; i < 2; ++i) {
    script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
    script().Expect("GET", "/pods?labelSelector", 200, json({{"items", json::array({leaving})}}).dump());
  }
  cluster_.Settle(link());
  cluster_.Pass(link(), 50 * kSecond);
  EXPECT_THAT(told(), Contains(HasSubstr("its node does not say")));
}

TEST_F(JobsTest, AStopThatWasRefusedIsAskedForAgain) {
  limit_ = 10;
  Live();
  Scripted& stream = script().Expect("GET", "/log?", 200);
  stream.pieces = {"2026-01-02T03:04:07Z 0123456789\n", "2026-01-02T03:04:07Z 0123456789\n"};
  stream.open = true;
  script().Expect("DELETE", "/jobs/", 403, R"({"kind": "Status", "message": "a webhook says no"})");
  Tell("/pods", "ADDED", PodJson(kRunning));
  EXPECT_THAT(Deletes(), SizeIs(1));
  script().Expect("DELETE", "/jobs/", 200, "{}");
  cluster_.Relist(link(), "/jobs");
  EXPECT_THAT(Deletes(), SizeIs(2));
  cluster_.Relist(link(), "/pods");
  EXPECT_THAT(Deletes(), SizeIs(2)) << "once it was heard";
}

TEST_F(JobsTest, TheLogOfAnotherPodOfItsNameIsNotRead) {
  Live();
  script().Expect("GET", "/log?", 200).open = true;
  Tell("/pods", "ADDED", PodJson(kRunning, "p1"));
  Tell("/pods", "ADDED", PodJson(kWaits, "p2"));
  EXPECT_THAT(told().back(), HasSubstr("lost: its pod was deleted by somebody else"));
  EXPECT_TRUE(script().seen[cluster_.Last("/log?")].aborted);
  EXPECT_THAT(cluster_.Asked("/log?"), SizeIs(1));
}

TEST_F(JobsTest, AnAnswerThatIsNoListIsNone) {
  KnownAttempt known;
  known.name = kName;
  known.handle = "j1";
  script().Expect("GET", absl::StrCat("/jobs/", JobName(kName)), 200, JobJson().dump());
  script().Expect("GET", "/pods?labelSelector", 200, R"({"items": {"a": 1}})");
  Adopt({known});
  EXPECT_THAT(told(), IsEmpty());
}

}  // namespace
}  // namespace orch::kubernetes
