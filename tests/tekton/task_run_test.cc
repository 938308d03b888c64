// What Tekton says of a TaskRun and of its pod, and what becomes of an attempt by that.
#include "backends/tekton/task_run.h"

#include <gmock/gmock.h>

#include "backends/kubernetes/job_end.h"
#include "backends/kubernetes/job_life.h"
#include "backends/kubernetes/pending.h"

namespace orch::tekton {
namespace {

using kubernetes::CallAnswer;
using kubernetes::EndOf;
using kubernetes::JobFate;
using kubernetes::JobLife;
using kubernetes::JobView;
using kubernetes::Move;
using kubernetes::PodView;
using nlohmann::json;
using ::testing::HasSubstr;
using Do = Move::Do;

constexpr char kSelector[] = "orchd.io/instance=i,orchd.io/orchestrator=o";

json TaskRun(const std::string& status, const std::string& reason, const std::string& message) {
  return {{"metadata",
           {{"name", "t"},
            {"uid", "u"},
            {"labels", {{"orchd.io/instance", "i"}, {"orchd.io/orchestrator", "o"}, {"orchd.io/key", "k"}}}}},
          {"status",
           {{"conditions",
             json::array({{{"type", "Succeeded"}, {"status", status}, {"reason", reason}, {"message", message}}})}}}};
}
JobView Seen(const std::string& status, const std::string& reason, const std::string& message = "m") {
  return ReadTaskRun(TaskRun(status, reason, message), kSelector);
}
json State(const char* name, const json& state) { return {{"name", name}, {"state", state}}; }
PodView Pod(const std::string& phase, const json& launcher, const json& main) {
  const json pod = {
      {"metadata", {{"name", "t-pod"}, {"uid", "p"}}},
      {"status",
       {{"phase", phase}, {"containerStatuses", {State("step-launcher", launcher), State("step-main", main)}}}}};
  return kubernetes::ReadPod(pod, TaskRuns().pod);
}
const json kRunning = {{"running", {{"startedAt", "2026-01-02T03:04:05Z"}}}};
json Ended(int code) {
  return {{"terminated",
           {{"exitCode", code}, {"startedAt", "2026-01-02T03:04:05Z"}, {"finishedAt", "2026-01-02T03:04:09Z"}}}};
}

TEST(TaskRunView, SaysWhyItWaitsAndHowItEnded) {
  EXPECT_EQ(Seen("Unknown", "ExceededResourceQuota", "no room").waits_for, "ExceededResourceQuota: no room");
  EXPECT_EQ(Seen("Unknown", "Running").waits_for, "");
  EXPECT_TRUE(Seen("True", "Succeeded").complete);
  const JobView pull = Seen("False", "TaskRunImagePullFailed");
  EXPECT_TRUE(pull.failed && pull.ours);
  EXPECT_EQ(pull.verdict, Reason::kImagePullFailed);
  EXPECT_EQ(Seen("False", "Failed").verdict, Reason::kNone);
  EXPECT_EQ(ReadTaskRun(json::array(), kSelector).name, "");
  EXPECT_FALSE(ReadTaskRun({{"metadata", {{"labels", {{"orchd.io/key", "k"}}}}}}, kSelector).ours);
}

TEST(TektonPod, BeginsOnceTheLauncherIsThere) {
  EXPECT_FALSE(Pod("Running", kRunning, kRunning).began()) << "its entrypoint waits";
  const PodView begun = Pod("Running", Ended(0), kRunning);
  EXPECT_TRUE(begun.began());
  EXPECT_EQ(begun.main.started_wall, kubernetes::WallOf("2026-01-02T03:04:09Z"));
  const PodView none = Pod("Failed", Ended(125), Ended(1));
  EXPECT_FALSE(none.began());
  const auto end = EndOf(none, Seen("False", "Failed"), JobFate());
  EXPECT_EQ(end.end.reason, Reason::kUnschedulable);
  EXPECT_TRUE(end.end.never_started);
  EXPECT_THAT(end.end.message, HasSubstr("the launcher could not be brought"));
  const PodView pulls = Pod("Pending", {{"waiting", {{"reason", "ErrImagePull"}, {"message", "no"}}}},
                            {{"waiting", {{"reason", "PodInitializing"}}}});
  EXPECT_EQ(kubernetes::PendingOf(pulls, 60).reason, Reason::kImagePullFailed);
}

constexpr int64_t kNow = 1;  // mono

JobLife Live() {
  JobLife life(false, false, /*verdicts=*/true);
  (void)life.Ready();
  CallAnswer created;
  created.code = 201;
  (void)life.Made(created, Seen("Unknown", "Started"));
  return life;
}

TEST(TektonLife, APodThatIsTakenAwayIsJudgedByTheTaskRun) {
  JobLife life = Live();
  const PodView pod =
      Pod("Pending", {{"waiting", {{"reason", "ErrImagePull"}}}}, {{"waiting", {{"reason", "PodInitializing"}}}});
  (void)life.SeenPod(pod, kNow);
  const Move gone = life.GonePod(pod);
  EXPECT_EQ(gone.what, Do::kLater) << "why is still to come";
  const JobView task = Seen("False", "TaskRunImagePullFailed", "the image");
  EXPECT_EQ(life.SeenJob(task).what, Do::kTell);
  JobFate fate;
  fate.pod_gone = true;
  const auto end = EndOf(life.pod(), life.job(), fate);
  EXPECT_FALSE(end.lost);
  EXPECT_EQ(end.end.reason, Reason::kImagePullFailed);
  EXPECT_EQ(end.end.message, "TaskRunImagePullFailed: the image");
}

TEST(TektonLife, WithoutAWordOfTheTaskRunItIsLookedUpOnce) {
  JobLife life = Live();
  const PodView pod = Pod("Running", Ended(0), kRunning);
  (void)life.SeenPod(pod, kNow);
  EXPECT_EQ(life.GonePod(pod).what, Do::kLater);
  EXPECT_EQ(life.IsDue().what, Do::kLook);
  life.Looks();
  CallAnswer found;
  found.code = 200;
  EXPECT_EQ(life.Looked(found, Seen("Unknown", "Running"), std::vector<PodView>{}, kNow).what, Do::kReadLog);
  JobFate fate;
  fate.word = "TaskRun";
  fate.pod_gone = true;
  EXPECT_TRUE(EndOf(life.pod(), life.job(), fate).lost);
}

TEST(TektonLife, ACancelOfOursWaitsForNobody) {
  JobLife life = Live();
  PodView pod = Pod("Running", Ended(0), kRunning);
  (void)life.SeenPod(pod, kNow);
  EXPECT_TRUE(life.Cancel().stop);
  pod.deleting = true;
  pod.main.state = kubernetes::ContainerView::State::kTerminated;
  EXPECT_EQ(life.SeenPod(pod, kNow).what, Do::kReadLog);
}

TEST(TektonEnd, CancelledByOthersIsLost) {
  PodView pod = Pod("Running", Ended(0), kRunning);
  pod.deleting = true;
  const auto end = EndOf(pod, Seen("False", "TaskRunCancelled", "by hand"), JobFate());
  EXPECT_TRUE(end.lost);
  EXPECT_EQ(end.end.message, "TaskRunCancelled: by hand");
}

}  // namespace
}  // namespace orch::tekton
