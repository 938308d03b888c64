// Whole runs' hands: what they wait for and ask for again, against a cluster that is a script.
#include "backends/tekton/pipeline_runs.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "backends/tekton/task_run.h"
#include "tests/kubernetes/scripted_cluster.h"

namespace orch::tekton {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kKey[] = "abcdefghij234567abcd";
constexpr char kRun[] = "0190-run";

json Labelled(const char* name, const char* uid) {
  return {{"metadata",
           {{"name", name},
            {"uid", uid},
            {"creationTimestamp", "2026-01-02T03:04:05Z"},
            {"labels", {{"orchd.io/instance", "4f2b"}, {"orchd.io/orchestrator", "k8s"}}}}}};
}
json RunJson() {
  json out = Labelled("digits-1", "r1");
  out["metadata"]["labels"][kRunLabel] = kRun;
  out["metadata"]["labels"]["orchd.io/number"] = "1";
  return out;
}
json PodJson(bool over) {
  json out = Labelled("pod", "p1");
  out["metadata"]["labels"][kOfRunLabel] = "digits-1";
  out["metadata"]["labels"][kTaskLabel] = "0";
  const json ended = {{"terminated",
                       {{"exitCode", over ? 3 : 0},
                        {"reason", over ? "Error" : "Completed"},
                        {"startedAt", "2026-01-02T03:04:06Z"},
                        {"finishedAt", "2026-01-02T03:04:07Z"}}}};
  json brought = ended;
  brought["terminated"]["exitCode"] = 0;
  const json main = over ? ended : json({{"running", {{"startedAt", "2026-01-02T03:04:06Z"}}}});
  out["status"] = {{"phase", over ? "Failed" : "Running"},
                   {"containerStatuses", json::array({{{"name", "step-launcher"}, {"state", brought}},
                                                      {{"name", "step-main"}, {"state", main}}})}};
  return out;
}

class PipelineRunsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.pods.kubeconfig = cluster_.file();
    config_.pods.image = "i:1";
    config_.whole_runs = true;
    cluster_.Lists("/pipelineruns", json::array({RunJson()}));
    cluster_.Lists("/pods", json::array({PodJson(false)}));
    jobs_ = std::make_unique<kubernetes::Jobs>(&cluster_.context, &config_.pods, &TaskRuns(),
                                               cluster_.dial({"/taskruns", "/pods", "/pipelineruns"}));
    runs_ = std::make_unique<PipelineRuns>(&cluster_.context, &config_, jobs_.get(), &draining_);
    jobs_->Attach(runs_.get());
    jobs_->Connect(&cluster_.listener);
    cluster_.script().Expect("PATCH", "/secrets/", 200, "{}");  // the run's own
  }
  kubernetes::ClusterLink* link() { return &jobs_->link(); }
  // An attempt that runs in its pod, and whose log is followed.
  void Runs(int64_t limit, const std::vector<std::string>& log) {
    KnownAttempt known;
    known.name = {kKey, "default", kRun, "digits-1", "train", 0, 1, ""};
    known.handle = "digits-1";
    known.place = "pod/p1";
    known.log_limit_bytes = limit;
    known.outline = [] { return absl::StatusOr<RunOutline>(RunOutline()); };
    kubernetes::Scripted& stream = cluster_.script().Expect("GET", "/log?", 200);
    stream.pieces = log;
    stream.open = true;
    runs_->Adopt(known);
    jobs_->Adopt({});
    cluster_.Settle(link());
  }

  kubernetes::ScriptedCluster cluster_;
  Config config_;
  DrainingLogs draining_;
  std::unique_ptr<kubernetes::Jobs> jobs_;
  std::unique_ptr<PipelineRuns> runs_;
};

TEST_F(PipelineRunsTest, ALogThatIsBeingReadIsReadByAnotherClient) {
  Runs(0, {});
  ASSERT_THAT(cluster_.Asked("/log?"), SizeIs(1));
  cluster_.script().Expect("GET", "/log?", 200).open = true;
  cluster_.Tell("/pods", "MODIFIED", PodJson(true));
  cluster_.Settle(link());
  EXPECT_THAT(cluster_.listener.ends, IsEmpty()) << "its log is still read";
  cluster_.Renew("second");
  cluster_.Lists("/pods", json::array({PodJson(true)}));
  link()->Connect();
  cluster_.script().Expect("GET", "/log?", 200).pieces = {"2026-01-02T03:04:07Z all\n"};
  cluster_.Settle(link());
  ASSERT_THAT(cluster_.listener.ends, SizeIs(1));
  EXPECT_EQ(cluster_.listener.ends[0].exit_code, 3);
  EXPECT_EQ(cluster_.listener.ends[0].stdout_bytes, 4);
}

TEST_F(PipelineRunsTest, AKillThatWasRefusedIsAskedForAgain) {
  cluster_.script().Expect("DELETE", "/pods/", 403, R"({"kind": "Status", "message": "a webhook says no"})");
  Runs(10, {"2026-01-02T03:04:07Z 0123456789\n"});
  EXPECT_THAT(cluster_.Asked("DELETE "), SizeIs(1));
  cluster_.script().Expect("DELETE", "/pods/", 200, "{}");
  cluster_.Relist(link(), "/taskruns");
  EXPECT_THAT(cluster_.Asked("DELETE "), SizeIs(2));
  cluster_.Relist(link(), "/taskruns");
  EXPECT_THAT(cluster_.Asked("DELETE "), SizeIs(2));
}

}  // namespace
}  // namespace orch::tekton
