// The races between a daemon, an API server and others about one Job.
#include "backends/kubernetes/job_life.h"

#include <gmock/gmock.h>

#include <random>
#include <string>

namespace orch::kubernetes {
namespace {

using ::testing::HasSubstr;
using Do = Move::Do;

JobView JobNamed(const std::string& uid = "j1") {
  JobView job;
  job.name = "job";
  job.uid = uid;
  job.key = "k";
  job.ours = true;
  return job;
}
PodView PodNamed(const std::string& phase, const std::string& uid = "p1", int64_t created = 1) {
  PodView pod;
  pod.name = "pod-" + uid;
  pod.uid = uid;
  pod.phase = phase;
  pod.created_wall = created;
  if (phase == "Running") {
    pod.main.state = ContainerView::State::kRunning;
    pod.main.started_wall = 5;
  } else if (phase != "Pending") {
    pod.main.state = ContainerView::State::kTerminated;
    pod.main.started_wall = 5;
    pod.main.ended_wall = 6;
  }
  return pod;
}
PodView Leaving(PodView pod) {
  pod.deleting = true;
  pod.grace_seconds = 3;
  return pod;
}
CallAnswer Code(int code) {
  CallAnswer out;
  out.code = code;
  return out;
}
const CallAnswer kOk = Code(201);
const std::vector<PodView> kNoPods;

// With a clock that stands unless it is moved, and with nothing told while it looks unless a test says so.
struct Life : JobLife {
  using JobLife::JobLife;
  Move SeenPod(const PodView& pod) { return JobLife::SeenPod(pod, now); }
  Move Answered(const CallAnswer& answer, const std::optional<JobView>& job,
                const std::optional<std::vector<PodView>>& pods) {
    return JobLife::Looked(answer, job, pods, now);
  }
  Move Looked(const CallAnswer& answer, const std::optional<JobView>& job,
              const std::optional<std::vector<PodView>>& pods) {
    Looks();
    return Answered(answer, job, pods);
  }
  int64_t now = 1'000'000;
};

Life Live() {
  Life life(false, false);
  EXPECT_EQ(life.Ready().what, Do::kMake);
  EXPECT_TRUE(life.Made(kOk, JobNamed()).accepted);
  return life;
}

TEST(JobLife, FromItsMakingToItsEnd) {
  Life life = Live();
  EXPECT_EQ(life.SeenJob(JobNamed()).accepted, false) << "told once";
  EXPECT_EQ(life.SeenPod(PodNamed("Pending")).what, Do::kNothing);
  const Move runs = life.SeenPod(PodNamed("Running"));
  EXPECT_TRUE(runs.started);
  EXPECT_EQ(runs.what, Do::kFollow);
  EXPECT_FALSE(life.SeenPod(PodNamed("Running")).started);
  EXPECT_EQ(life.SeenPod(PodNamed("Failed")).what, Do::kReadLog);
  EXPECT_EQ(life.SeenPod(PodNamed("Failed")).what, Do::kNothing);
  EXPECT_EQ(life.GoneJob(JobNamed()).what, Do::kNothing);
}

TEST(JobLife, AnEndWithoutAWordOfItsStart) {
  Life life = Live();
  const Move move = life.SeenPod(PodNamed("Succeeded"));
  EXPECT_TRUE(move.started);
  EXPECT_EQ(move.what, Do::kReadLog);
}

TEST(JobLife, ThePodIsToldOfBeforeTheJob) {
  Life life(false, false);
  (void)life.Ready();
  EXPECT_EQ(life.SeenPod(PodNamed("Running")).what, Do::kNothing);
  const Move move = life.SeenJob(JobNamed());
  EXPECT_TRUE(move.accepted && move.started);
  EXPECT_EQ(move.what, Do::kFollow);
  EXPECT_EQ(life.Made(kOk, JobNamed()).what, Do::kNothing) << "the answer comes last";
}

TEST(JobLife, AnAnswerThatWasLost) {
  Life life(false, false);
  (void)life.Ready();
  EXPECT_EQ(life.Made(Code(0), {}).what, Do::kUnknown);
  EXPECT_EQ(life.Looked(Code(404), std::nullopt, kNoPods).what, Do::kNotFound);
  Life other(false, false);
  (void)other.Ready();
  EXPECT_EQ(other.Made(Code(504), {}).what, Do::kUnknown);
  EXPECT_TRUE(other.Looked(Code(200), JobNamed(), kNoPods).accepted);
}

TEST(JobLife, WhatWasNeverHeardWaits) {
  Life life(false, false);
  (void)life.Ready();
  CallAnswer unheard = Code(0);
  unheard.unheard = true;
  EXPECT_EQ(life.Made(unheard, {}).what, Do::kAway);
  EXPECT_EQ(life.phase(), Phase::kWaiting);
  EXPECT_EQ(life.Ready().what, Do::kMake);
  EXPECT_EQ(life.Made(Code(401), {}).what, Do::kAway);
}

TEST(JobLife, ANameThatIsTaken) {
  CallAnswer exists = Code(409);
  exists.exists = true;
  Life life(false, false);
  (void)life.Ready();
  EXPECT_EQ(life.Made(exists, {}).what, Do::kLook);
  const Move ours = life.Looked(Code(200), JobNamed(), std::vector<PodView>{PodNamed("Running")});
  EXPECT_TRUE(ours.accepted && ours.started);
  Life other(false, false);
  (void)other.Ready();
  (void)other.Made(exists, {});
  JobView foreign = JobNamed();
  foreign.ours = false;
  const Move refused = other.Looked(Code(200), foreign, kNoPods);
  EXPECT_EQ(refused.what, Do::kRefuse);
  EXPECT_FALSE(refused.transient);
  EXPECT_THAT(refused.message, HasSubstr("left alone"));
}

TEST(JobLife, Refusals) {
  CallAnswer quota = Code(403);
  quota.for_now = true;
  quota.words = "exceeded quota";
  Life life(false, false);
  (void)life.Ready();
  const Move move = life.Made(quota, {});
  EXPECT_EQ(move.what, Do::kRefuse);
  EXPECT_TRUE(move.transient);
  EXPECT_EQ(move.message, "exceeded quota");
  Life bad(false, false);
  (void)bad.Ready();
  EXPECT_FALSE(bad.Made(Code(422), {}).transient);
}

TEST(JobLife, CancelledInTime) {
  Life life(false, false);
  EXPECT_EQ(life.Cancel().what, Do::kEndUnstarted);
  Life making(false, false);
  (void)making.Ready();
  EXPECT_EQ(making.Cancel().what, Do::kNothing) << "what becomes of it is on its way";
  const Move move = making.Made(kOk, JobNamed());
  EXPECT_TRUE(move.accepted && move.stop);
  const Move gone = making.GoneJob(JobNamed());
  EXPECT_EQ(gone.what, Do::kLater) << "its pod may be told of by the other stream";
  EXPECT_EQ(making.IsDue().what, Do::kLook);
  EXPECT_EQ(making.Looked(Code(404), std::nullopt, kNoPods).what, Do::kTell);
}

TEST(JobLife, CancelledWhileItRuns) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  EXPECT_TRUE(life.Cancel().stop);
  EXPECT_TRUE(life.Cancel().stop) << "again without harm";
  (void)life.GoneJob(JobNamed());
  EXPECT_EQ(life.SeenPod(Leaving(PodNamed("Running"))).what, Do::kLater);
  EXPECT_EQ(life.SeenPod(Leaving(PodNamed("Failed"))).what, Do::kReadLog);
}

TEST(JobLife, CancelledWhileNobodyDeletesPodsAfterTheirJob) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  (void)life.Cancel();
  const Move gone = life.GoneJob(JobNamed());
  EXPECT_EQ(gone.wait, 2'000'000);
  EXPECT_FALSE(gone.stop_pod) << "mostly it is about to be deleted";
  for (int i = 0; i < 2; ++i) {  // until it is
    EXPECT_EQ(life.IsDue().what, Do::kLook);
    const Move left = life.Looked(Code(404), std::nullopt, std::vector<PodView>{PodNamed("Running")});
    EXPECT_TRUE(left.stop_pod);
    EXPECT_EQ(left.what, Do::kLater);
  }
  const Move leaving = life.SeenPod(Leaving(PodNamed("Running")));
  EXPECT_FALSE(leaving.stop_pod);
  EXPECT_EQ(leaving.wait, 33'000'000) << "its node has its time, whatever was waited for before";
  EXPECT_EQ(life.SeenPod(Leaving(PodNamed("Failed"))).what, Do::kReadLog);
}

TEST(JobLife, ANodeThatDoesNotAnswerIsNotWaitedForForEver) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  const Move move = life.SeenPod(Leaving(PodNamed("Running")));
  EXPECT_EQ(move.wait, 33'000'000);
  life.now += move.wait;
  EXPECT_EQ(life.IsDue().what, Do::kLook);
  EXPECT_EQ(life.Looked(Code(200), JobNamed(), std::vector<PodView>{Leaving(PodNamed("Running"))}).what, Do::kReadLog);
  EXPECT_TRUE(life.silent());
}

TEST(JobLife, ADeletionHasItsTimeWhateverIsLookedForMeanwhile) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  (void)life.Cancel();
  EXPECT_EQ(life.GoneJob(JobNamed()).wait, 2'000'000);
  life.now += 2'000'000;
  EXPECT_EQ(life.IsDue().what, Do::kLook);
  life.Looks();
  EXPECT_EQ(life.SeenPod(Leaving(PodNamed("Running"))).wait, 33'000'000) << "the garbage collector was late";
  const Move move = life.Answered(Code(404), std::nullopt, std::vector<PodView>{Leaving(PodNamed("Running"))});
  EXPECT_EQ(move.what, Do::kFollow) << "it has its grace";
  EXPECT_FALSE(life.silent());
  life.now += 33'000'000;
  EXPECT_EQ(life.IsDue().what, Do::kLook);
  EXPECT_EQ(life.Looked(Code(404), std::nullopt, std::vector<PodView>{Leaving(PodNamed("Running"))}).what,
            Do::kReadLog);
  EXPECT_TRUE(life.silent());
}

TEST(JobLife, AShorterGraceIsNotWaitedForByTheLongerOne) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  (void)life.Cancel();
  PodView pod = Leaving(PodNamed("Running"));
  pod.grace_seconds = 3600;
  EXPECT_EQ(life.SeenPod(pod).wait, 3'630'000'000);
  life.now += 10'000'000;
  pod.grace_seconds = 1;  // by force
  const Move move = life.SeenPod(pod);
  EXPECT_EQ(move.what, Do::kLater);
  EXPECT_EQ(move.wait, 31'000'000);
  life.now += move.wait;
  EXPECT_EQ(life.IsDue().what, Do::kLook);
  EXPECT_EQ(life.Looked(Code(404), std::nullopt, std::vector<PodView>{pod}).what, Do::kReadLog);
}

TEST(JobLife, WhatAFormerConnectionWasToWaitForIsWaitedForAgain) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  const std::vector<PodView> leaving = {Leaving(PodNamed("Running"))};
  EXPECT_EQ(life.SeenPod(leaving[0]).wait, 33'000'000);
  life.Anew();
  life.now += 3'000'000;
  EXPECT_EQ(life.Missing().what, Do::kLook);
  const Move again = life.Looked(Code(200), JobNamed(), leaving);
  EXPECT_EQ(again.what, Do::kLater);
  EXPECT_EQ(again.wait, 30'000'000) << "for what is left of it";
  life.Anew();
  life.now += 40'000'000;
  EXPECT_EQ(life.Looked(Code(200), JobNamed(), leaving).what, Do::kReadLog);
  Life making(false, false);
  (void)making.Ready();
  making.Anew();  // its answer does not come
  EXPECT_EQ(making.Missing().what, Do::kLook);
  EXPECT_EQ(making.Looked(Code(404), std::nullopt, kNoPods).what, Do::kUnknown);
  EXPECT_EQ(making.phase(), Phase::kAdopted);
}

TEST(JobLife, WhatIsToldWhileItIsLookedForIsNotConcludedGone) {
  Life life(true, false);
  (void)life.Missing();
  life.Looks();
  (void)life.SeenPod(PodNamed("Running"));
  EXPECT_EQ(life.Answered(Code(200), JobNamed(), kNoPods).what, Do::kLook) << "the list is older";
  EXPECT_FALSE(life.pod_gone());
  const Move found = life.Looked(Code(200), JobNamed(), std::vector<PodView>{PodNamed("Running")});
  EXPECT_TRUE(found.accepted && found.started);
  EXPECT_EQ(life.Looked(Code(200), JobNamed(), kNoPods).what, Do::kReadLog);
  EXPECT_TRUE(life.pod_gone());

  Life jobless(true, false);
  jobless.Looks();
  (void)jobless.SeenJob(JobNamed());
  EXPECT_EQ(jobless.Answered(Code(404), std::nullopt, kNoPods).what, Do::kLook);
  EXPECT_FALSE(jobless.job_gone());

  Life gone = Live();
  (void)gone.Cancel();
  gone.Looks();
  (void)gone.GoneJob(JobNamed());
  EXPECT_EQ(gone.Answered(Code(200), JobNamed(), kNoPods).what, Do::kLook) << "nobody would tell of it again";
  EXPECT_EQ(gone.Looked(Code(404), std::nullopt, kNoPods).what, Do::kTell);
}

TEST(JobLife, APodOfTheSameNameIsNotTheAttempts) {
  const auto named = [](PodView pod) {
    pod.name = "pod";
    return pod;
  };
  for (const bool verdicts : {false, true}) {
    Life life(false, false, verdicts);
    (void)life.Ready();
    (void)life.Made(kOk, JobNamed());
    (void)life.SeenPod(named(PodNamed("Pending", "p0", 1)));
    (void)life.SeenPod(named(PodNamed("Running", "p1", 2)));  // it had not begun: this one is the attempt's
    EXPECT_TRUE(life.began());
    EXPECT_EQ(life.SeenPod(named(PodNamed("Pending", "p2", 3))).what, Do::kReadLog);
    EXPECT_TRUE(life.replaced() && life.pod_gone());
    EXPECT_EQ(life.pod()->uid, "p1");
    Life looked(false, false, verdicts);
    (void)looked.Ready();
    (void)looked.Made(kOk, JobNamed());
    (void)looked.SeenPod(named(PodNamed("Running", "p1", 2)));
    EXPECT_EQ(looked.Looked(Code(200), JobNamed(), std::vector<PodView>{named(PodNamed("Succeeded", "p2", 2))}).what,
              Do::kReadLog);
    EXPECT_TRUE(looked.replaced());
    Life two(false, false, verdicts);
    (void)two.Ready();
    (void)two.Made(kOk, JobNamed());
    (void)two.SeenPod(PodNamed("Running", "p1", 2));
    EXPECT_EQ(two.SeenPod(PodNamed("Succeeded", "p2", 3)).what, Do::kNothing) << "the first may be there";
    EXPECT_EQ(two.SeenPod(PodNamed("Succeeded", "p1", 2)).what, Do::kReadLog);
  }
}

TEST(JobLife, DeletedByOthers) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Running"));
  EXPECT_EQ(life.GoneJob(JobNamed()).what, Do::kFollow) << "its pod runs on";
  EXPECT_EQ(life.GonePod(PodNamed("Running")).what, Do::kReadLog);
  EXPECT_TRUE(life.job_gone() && life.pod_gone());
  Life unborn = Live();
  (void)unborn.SeenPod(PodNamed("Pending"));
  EXPECT_EQ(unborn.GonePod(PodNamed("Pending")).what, Do::kTell);
}

TEST(JobLife, APodThatIsNotTheJobsLastIsPassedOver) {
  Life life = Live();
  (void)life.SeenPod(PodNamed("Pending", "p2", 9));
  EXPECT_EQ(life.SeenPod(PodNamed("Failed", "p1", 1)).what, Do::kNothing);
  EXPECT_EQ(life.GonePod(PodNamed("Failed", "p1", 1)).what, Do::kNothing);
  EXPECT_EQ(life.SeenPod(PodNamed("Running", "p2", 9)).what, Do::kFollow);
}

TEST(JobLife, PodsOfAnEarlierJobOfItsNameAreNotItsOwn) {
  const auto of = [](const std::string& owner, PodView pod) {
    pod.owner = owner;
    return pod;
  };
  Life life(false, false);
  (void)life.Ready();
  (void)life.SeenPod(of("j0", Leaving(PodNamed("Pending", "p0"))));  // told of before the Job's answer
  const Move made = life.Made(kOk, JobNamed());
  EXPECT_TRUE(made.accepted);
  EXPECT_EQ(made.what, Do::kNothing);
  EXPECT_EQ(life.GonePod(of("j0", PodNamed("Pending", "p0"))).what, Do::kNothing);
  EXPECT_EQ(life.SeenPod(of("j0", PodNamed("Failed", "p0", 9))).what, Do::kNothing);
  EXPECT_TRUE(life.SeenPod(of("j1", PodNamed("Running"))).started);
  EXPECT_EQ(life.Looked(Code(200), JobNamed(),
                        std::vector<PodView>{of("j0", PodNamed("Failed", "p0", 9)), of("j1", PodNamed("Running"))})
                .what,
            Do::kFollow);
}

TEST(JobLife, Adopted) {
  Life runs(true, false);
  EXPECT_EQ(runs.SeenPod(PodNamed("Running")).what, Do::kNothing);
  EXPECT_TRUE(runs.SeenJob(JobNamed()).accepted);
  Life none(true, false);
  EXPECT_EQ(none.Missing().what, Do::kLook);
  EXPECT_EQ(none.Looked(Code(404), std::nullopt, kNoPods).what, Do::kNotFound);
  Life stopping(true, true);
  const Move move = stopping.SeenJob(JobNamed());
  EXPECT_TRUE(move.stop);
  Life jobless(true, true);
  EXPECT_EQ(jobless.Looked(Code(404), std::nullopt, std::vector<PodView>{Leaving(PodNamed("Running"))}).what,
            Do::kLater);
  Life ended(true, false);
  JobView failed = JobNamed();
  failed.failed = true;
  (void)ended.SeenJob(failed);
  EXPECT_EQ(ended.SeenPod(PodNamed("Failed")).what, Do::kReadLog);
}

TEST(JobLife, AnAnswerThatIsNoneIsAskedForAgain) {
  Life life(true, false);
  (void)life.Missing();
  EXPECT_EQ(life.Looked(Code(500), std::nullopt, std::nullopt).what, Do::kAway);
  EXPECT_EQ(life.Looked(Code(200), JobNamed(), std::nullopt).what, Do::kAway);
  EXPECT_EQ(life.Missing().what, Do::kLook);
}

// A double of an API server with one name, under a daemon whose answers get lost and which is killed at any moment.
TEST(JobLife, HoweverTheAnswersGetLostThereIsOneJob) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    std::minstd_rand random(seed);
    const auto chance = [&](unsigned percent) { return random() % 100 < percent; };
    std::optional<JobView> there;
    int made = 0;
    bool over = false;
    std::optional<Life> life(std::in_place, false, false);
    std::vector<Move> todo = {life->Ready()};
    for (int step = 0; step < 200 && !over; ++step) {
      if (chance(5)) {  // killed; what was asked for may still be done
        if (!todo.empty() && todo.back().what == Do::kMake && chance(50) && !there) {
          there = JobNamed("j" + std::to_string(++made));
        }
        life.emplace(true, false);
        todo = {life->Missing()};
        continue;
      }
      if (todo.empty()) {
        if (life->phase() == Phase::kWaiting)
          todo.push_back(life->Ready());
        else if (there && chance(50))
          todo.push_back(life->SeenJob(*there));
        else if (life->known())
          over = true;
        else
          todo.push_back(life->Missing());
        continue;
      }
      const Move move = todo.back();
      todo.pop_back();
      if (move.what == Do::kMake) {
        CallAnswer answer = Code(201);
        if (chance(30)) {
          answer = Code(0);
          answer.unheard = chance(50);
        }
        if (!answer.unheard) {
          if (there) {
            answer = answer.code == 0 ? answer : Code(409);
            answer.exists = answer.code == 409;
          } else if (answer.code != 0 || chance(50)) {
            there = JobNamed("j" + std::to_string(++made));
          }
        }
        if (there && chance(30)) todo.push_back(life->SeenJob(*there));
        todo.push_back(life->Made(answer, there.value_or(JobView())));
      } else if (move.what == Do::kLook) {
        if (chance(20))
          todo.push_back(life->Looked(Code(0), std::nullopt, std::nullopt));
        else if (there)
          todo.push_back(life->Looked(Code(200), there, kNoPods));
        else
          todo.push_back(life->Looked(Code(404), std::nullopt, kNoPods));
      } else if (move.what == Do::kUnknown || move.what == Do::kAway) {
        if (life->phase() != Phase::kWaiting) todo.push_back(life->Missing());
      } else if (move.what == Do::kNotFound) {
        ASSERT_FALSE(there) << seed;
        life.emplace(false, false);
        todo.push_back(life->Ready());
      }
    }
    EXPECT_TRUE(over) << seed;
    EXPECT_EQ(made, 1) << seed;
  }
}

}  // namespace
}  // namespace orch::kubernetes
