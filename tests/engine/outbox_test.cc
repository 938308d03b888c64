// The outbox over doubles: what it makes of reports about attempts that are over.
#include "server/engine/outbox.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/status.h"
#include "server/engine/judgements.h"
#include "server/engine/trouble.h"
#include "server/engine/worker_pool.h"

namespace orch {
namespace {

// Does all work at once, and slow work when it is told to.
class ExecutorDouble : public Executor {
 public:
  void InOrder(int64_t, std::function<void()> work) override { work(); }
  bool Here(absl::FunctionRef<void()>) override { return false; }
  void Aside(int64_t, std::function<void()> work) override { work(); }
  void Slowly(std::chrono::milliseconds pause, std::function<void()> work) override {
    slow.emplace_back(pause.count(), std::move(work));
  }
  void Stop() override {}
  // The pause of the oldest one, which is done.
  int64_t DoSlow() {
    auto [pause, work] = std::move(slow.front());
    slow.pop_front();
    work();
    return pause;
  }

  std::deque<std::pair<int64_t, std::function<void()>>> slow;
};

class WorkshopDouble : public Workshop {
 public:
  Rendered Render(const RunContext&, const Intent& intent, const std::string&, Backend*) override {
    Rendered out;
    if (again) {
      out.failure = Reason::kSubmitRefused;
      out.again = true;
      return out;
    }
    out.unit.key = intent.key;
    out.unit.attempts.emplace_back().name.key = intent.key;
    out.unit.attempts.back().workspace.on_this_machine = !far;
    return out;
  }
  OutputsStored Store(const RunContext&, const Intent& intent) override {
    OutputsStored out{intent.ref, {}, {}, "", false};
    if (away) out.failure = Reason::kStoreFailed;
    return out;
  }
  StepsResolved Resolve(const RunContext&, const std::vector<Intent>& intents) override {
    StepsResolved out;
    for (const Intent& intent : intents) {
      StepResolved& step = out.steps.emplace_back();
      step.ix = intent.ref.ix;
      step.again = again && intent.ref.ix == 0;
    }
    return out;
  }
  FanoutResolved ResolveFanout(const RunContext&, const Intent&) override {
    FanoutResolved out;
    out.again = again;
    return out;
  }
  bool IsQuick(const RunContext&, const Intent&) override { return false; }
  void Discard(const std::string&) override {}
  bool MayBeLeft(const std::string&) override { return far; }
  Judged Judge(const std::string&, bool last, AttemptEnd*) override {
    asked.push_back(last ? "last" : "first");
    if (meanwhile) meanwhile();
    if (away && !last) return Judged::kAskAgain;
    return away ? Judged::kNotTold : Judged::kTold;
  }

  bool again = false;  // nothing can be found out now
  bool far = false;    // it shares no files, and its launcher has not told how it ended
  bool away = false;   // where it may have left its word
  std::function<void()> meanwhile;
  std::vector<std::string> asked;
};

// Writes down what it is told.
class BackendDouble : public Backend {
 public:
  BackendDouble(Listener** listener, std::vector<std::string>* calls) : listener_(listener), calls_(calls) {}
  absl::Status Start(Listener* listener) override {
    *listener_ = listener;
    return absl::OkStatus();
  }
  void Stop() override {}
  Capacity capacity() const override { return {}; }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName&) override { return Workspace(); }
  void Submit(Unit unit) override { calls_->push_back("submit " + unit.key); }
  void Cancel(absl::string_view key, CancelMode) override { calls_->push_back("cancel " + std::string(key)); }
  void Release(absl::string_view key) override { calls_->push_back("release " + std::string(key)); }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    for (const KnownAttempt& attempt : attempts) {
      calls_->push_back("adopt " + attempt.name.key);
      adopted.push_back(attempt);
    }
  }
  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("double");
  }

  std::vector<KnownAttempt> adopted;

 private:
  Listener** const listener_;
  std::vector<std::string>* const calls_;
};

class OutboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(outbox_.AddBackend("o", std::make_unique<BackendDouble>(&listener_, &calls_)).ok());
    PipelineSpec spec;
    spec.steps.emplace_back().name = "s";
    auto run = std::make_shared<RunContext>();
    run->header.key = 1;
    run->graph = std::make_shared<const Graph>(std::move(spec), std::vector<StepTemplate>(1));
    outbox_.AddRun(std::move(run));
  }
  void Do(Intent::Kind kind, const std::string& key) {
    std::vector<Intent> intents(1);
    intents[0].kind = kind;
    intents[0].ref = {1, 0, 1};
    intents[0].key = key;
    intents[0].orchestrator = "o";
    outbox_.Start(std::move(intents));
  }
  // What the dispatcher is told next.
  Event Next() {
    std::deque<Post> posts = mailbox_.Drain(Clock::Real(), 0, 1);
    return posts.empty() ? Event() : *std::move(posts.front().event);
  }
  std::vector<std::string> Calls() { return std::exchange(calls_, {}); }

  Listener* listener_ = nullptr;
  std::vector<std::string> calls_;
  ExecutorDouble executor_;
  WorkshopDouble workshop_;
  Mailbox mailbox_{100};
  Outbox outbox_{&workshop_, &executor_, &mailbox_};
};

using Strings = std::vector<std::string>;

TEST_F(OutboxTest, WhatIsSaidOfALiveAttemptIsAnEvent) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_EQ(Calls(), Strings{"submit k"});
  listener_->Started("k", "", "", 0);
  listener_->Ended("k", {});
  listener_->Lost("k", "");
  EXPECT_EQ(mailbox_.depth(), 3u);
  EXPECT_TRUE(Calls().empty());
}

// Its end was committed before a crash, and the release was lost with it.
TEST_F(OutboxTest, AStrangerThatHasEndedIsReleasedHoweverItEnded) {
  listener_->Ended("old", {});
  EXPECT_EQ(Calls(), Strings{"release old"});
  listener_->Lost("lost", "");
  EXPECT_EQ(Calls(), Strings{"release lost"});
  listener_->Started("old", "", "", 0);
  EXPECT_EQ(mailbox_.depth(), 0u);
}

TEST_F(OutboxTest, AReleasedAttemptIsAStranger) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  Do(Intent::Kind::kReleaseAttempt, "k");
  EXPECT_FALSE(outbox_.FindAttempt("k").has_value());
  EXPECT_FALSE(outbox_.HasAttempts("o"));
  EXPECT_EQ(Calls(), (Strings{"submit k", "release k"}));
}

TEST_F(OutboxTest, AnUnknownAnswerIsAskedAfter) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->Unknown("k", "no answer");
  EXPECT_EQ(Calls(), (Strings{"submit k", "adopt k"}));
  EXPECT_EQ(mailbox_.depth(), 0u);
}

TEST_F(OutboxTest, WhatCannotBeMadeNowIsRefusedForNow) {
  workshop_.again = true;
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_TRUE(Calls().empty());
  const auto refused = std::get<AttemptRefused>(Next());
  EXPECT_TRUE(refused.transient);
  EXPECT_TRUE(refused.ours);
  workshop_.again = false;
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_EQ(Calls(), Strings{"submit k"});
}

TEST_F(OutboxTest, WhatCannotBeFoundOutNowIsAskedAgain) {
  workshop_.again = true;
  std::vector<Intent> intents(2);
  for (uint32_t i = 0; i < 2; ++i) {
    intents[i].kind = Intent::Kind::kResolveStep;
    intents[i].ref = {1, i, 1};
  }
  outbox_.Start(std::move(intents));
  EXPECT_EQ(std::get<StepsResolved>(Next()).steps.size(), 1u) << "of the other one it is known";
  EXPECT_EQ(executor_.DoSlow(), 500);
  EXPECT_EQ(executor_.DoSlow(), 1000);
  EXPECT_EQ(mailbox_.depth(), 0u);
  workshop_.again = false;
  executor_.DoSlow();
  const auto known = std::get<StepsResolved>(Next());
  ASSERT_EQ(known.steps.size(), 1u);
  EXPECT_EQ(known.steps[0].ix, 0u);
  EXPECT_TRUE(executor_.slow.empty());
}

TEST_F(OutboxTest, AFanOutThatCannotBeMadeNowIsAskedForAgain) {
  workshop_.again = true;
  Do(Intent::Kind::kResolveFanout, "");
  EXPECT_EQ(mailbox_.depth(), 0u);
  workshop_.again = false;
  EXPECT_EQ(executor_.DoSlow(), 500);
  EXPECT_FALSE(std::get<FanoutResolved>(Next()).again);
}

TEST_F(OutboxTest, NothingReachesABackendThatIsClosed) {
  using std::chrono::milliseconds;
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_EQ(Calls(), Strings{"submit k"});
  EXPECT_FALSE(outbox_.CloseWhenIdle("o", "is being changed", milliseconds(1)));
  Do(Intent::Kind::kReleaseAttempt, "k");
  EXPECT_EQ(Calls(), Strings{"release k"});
  EXPECT_TRUE(outbox_.CloseWhenIdle("o", "is being changed", milliseconds(0)));
  Do(Intent::Kind::kSubmitAttempt, "l");
  EXPECT_TRUE(Calls().empty());
  const auto refused = std::get<AttemptRefused>(Next());
  EXPECT_TRUE(refused.transient);
  EXPECT_TRUE(refused.ours);
  EXPECT_EQ(refused.message, "orchestrator `o` is being changed");
  outbox_.Open("o");
  Do(Intent::Kind::kSubmitAttempt, "l");
  EXPECT_EQ(Calls(), Strings{"submit l"});
}

TEST_F(OutboxTest, ABackendThatIsNotThereRefusesNothingForGood) {
  outbox_.RemoveBackend("o");
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_TRUE(std::get<AttemptRefused>(Next()).transient);
  EXPECT_TRUE(outbox_.CloseWhenIdle("o", "is being changed", std::chrono::milliseconds(0)))
      << "nothing is there that could do anything for it";
}

TEST(Trouble, WhatIsOverALimitIsSoAgain) {
  EXPECT_TRUE(IsOfTheMoment(Error(absl::StatusCode::kUnavailable, "DATABASE_BUSY", "")));
  EXPECT_TRUE(IsOfTheMoment(Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", "")));
  EXPECT_TRUE(IsOfTheMoment(absl::DeadlineExceededError("")));
  EXPECT_TRUE(IsOfTheMoment(absl::AbortedError("")));
  EXPECT_FALSE(IsOfTheMoment(Error(absl::StatusCode::kResourceExhausted, "SOURCE_TOO_LARGE", "")));
  EXPECT_FALSE(IsOfTheMoment(Error(absl::StatusCode::kNotFound, "SECRET_NOT_FOUND", "")));
  EXPECT_FALSE(IsOfTheMoment(absl::InternalError("")));
  EXPECT_FALSE(IsOfTheMoment(absl::OkStatus()));
}

TEST_F(OutboxTest, HooksAreAdoptedWithTheLimitsOfAll) {
  BackendDouble* hooks = nullptr;
  outbox_.SetHookBackend([&]() -> absl::StatusOr<std::unique_ptr<Backend>> {
    auto made = std::make_unique<BackendDouble>(&listener_, &calls_);
    hooks = made.get();
    return made;
  });
  HookRow row;
  row.key = "h";
  row.run = 1;
  ASSERT_TRUE(outbox_.AdoptHooks({row}, 7, 4096).ok());
  ASSERT_EQ(hooks->adopted.size(), 1u);
  EXPECT_EQ(hooks->adopted[0].name.key, "h");
  EXPECT_EQ(hooks->adopted[0].grace_micros, 7);
  EXPECT_EQ(hooks->adopted[0].log_limit_bytes, 4096);
}

// --- what may have been left behind ---

TEST_F(OutboxTest, OneKeyIsJudgedOnceAtATime) {
  workshop_.far = true;
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->Ended("k", {});
  listener_->Ended("k", {});
  listener_->NotFound("k");
  listener_->Lost("k", "");
  EXPECT_EQ(executor_.slow.size(), 1u);
  EXPECT_EQ(mailbox_.depth(), 0u);
  workshop_.meanwhile = [&] { listener_->Ended("k", {}); };
  EXPECT_EQ(executor_.DoSlow(), 0);
  EXPECT_EQ(workshop_.asked, Strings{"first"});
  EXPECT_TRUE(executor_.slow.empty());
  EXPECT_EQ(mailbox_.depth(), 1u);
  listener_->Ended("k", {});  // after it was told: it is looked at again
  EXPECT_EQ(executor_.slow.size(), 1u);
}

TEST_F(OutboxTest, AJudgementTellsItsOwnEndAlone) {
  Judgements judgements(&workshop_, &executor_);
  std::vector<std::string> told;
  const auto tell = [&](const std::string& name) {
    return [&told, name](bool, const AttemptEnd& end) { told.push_back(name + end.message); };
  };
  AttemptEnd end;
  end.message = " of the first";
  judgements.Begin("k", end, tell("one"));
  judgements.Begin("k", AttemptEnd(), tell("two"));
  EXPECT_EQ(executor_.slow.size(), 1u);
  // It is let go while it is asked for, and the key comes again.
  bool once = true;
  workshop_.meanwhile = [&] {
    if (!std::exchange(once, false)) return;
    judgements.Forget("k");
    end.message = " of the next";
    judgements.Begin("k", end, tell("three"));
  };
  executor_.DoSlow();
  EXPECT_TRUE(told.empty());
  EXPECT_TRUE(judgements.IsAt("k"));
  ASSERT_EQ(executor_.slow.size(), 1u);
  executor_.DoSlow();
  EXPECT_EQ(told, Strings{"three of the next"});
  EXPECT_FALSE(judgements.IsAt("k"));
}

TEST_F(OutboxTest, WhatMayBeLeftIsAskedForAgainAfterGrowingPausesUpToALimit) {
  workshop_.far = workshop_.away = true;
  outbox_.SetLeftPatience(std::chrono::seconds(200));
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->Ended("k", {});
  std::vector<int64_t> pauses;
  while (!executor_.slow.empty()) {
    EXPECT_EQ(mailbox_.depth(), 0u);
    pauses.push_back(executor_.DoSlow());
  }
  EXPECT_EQ(pauses, (std::vector<int64_t>{0, 1'000, 2'000, 4'000, 8'000, 16'000, 32'000, 60'000, 60'000, 17'000}));
  EXPECT_EQ(workshop_.asked.size(), pauses.size());
  EXPECT_EQ(workshop_.asked[8], "first");
  EXPECT_EQ(workshop_.asked[9], "last");
  EXPECT_EQ(mailbox_.depth(), 1u);
}

TEST_F(OutboxTest, WhatMayBeLeftIsTakenOnceItsPlaceIsBack) {
  workshop_.far = workshop_.away = true;
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->NotFound("k");
  executor_.DoSlow();
  workshop_.away = false;
  EXPECT_EQ(executor_.DoSlow(), 1'000);
  EXPECT_TRUE(executor_.slow.empty());
  EXPECT_EQ(mailbox_.depth(), 1u);
}

TEST_F(OutboxTest, ACancelledOneIsAskedForOnceMoreAndAReleasedOneNeverAgain) {
  workshop_.far = workshop_.away = true;
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->Ended("k", {});
  executor_.DoSlow();
  Do(Intent::Kind::kCancelAttempt, "k");
  Do(Intent::Kind::kCancelAttempt, "k");
  ASSERT_EQ(executor_.slow.size(), 2u);
  executor_.DoSlow();  // of the time before
  EXPECT_EQ(workshop_.asked.size(), 1u);
  EXPECT_EQ(executor_.DoSlow(), 0);
  EXPECT_EQ(workshop_.asked, (Strings{"first", "last"}));
  EXPECT_EQ(mailbox_.depth(), 1u);
  // Cancelled while it is asked for.
  Do(Intent::Kind::kSubmitAttempt, "m");
  listener_->Ended("m", {});
  workshop_.meanwhile = [&] { Do(Intent::Kind::kCancelAttempt, "m"); };
  executor_.DoSlow();
  EXPECT_EQ(workshop_.asked, (Strings{"first", "last", "first", "last"}));
  EXPECT_EQ(mailbox_.depth(), 2u);
  workshop_.meanwhile = nullptr;
  Do(Intent::Kind::kSubmitAttempt, "n");
  listener_->Ended("n", {});
  Do(Intent::Kind::kReleaseAttempt, "n");
  executor_.DoSlow();
  EXPECT_EQ(workshop_.asked.size(), 4u);
  EXPECT_EQ(mailbox_.depth(), 2u);
}

TEST_F(OutboxTest, WhatFailsBecauseTheDaemonStopsIsNotTold) {
  workshop_.away = true;
  Do(Intent::Kind::kStoreOutputs, "k");
  EXPECT_EQ(mailbox_.depth(), 1u);
  workshop_.far = true;
  Do(Intent::Kind::kSubmitAttempt, "m");
  listener_->Ended("m", {});
  Do(Intent::Kind::kCancelAttempt, "m");
  outbox_.Abandon();
  Do(Intent::Kind::kStoreOutputs, "k");
  while (!executor_.slow.empty()) executor_.DoSlow();
  EXPECT_EQ(workshop_.asked, Strings{"last"});
  EXPECT_EQ(mailbox_.depth(), 1u);
  workshop_.away = false;
  Do(Intent::Kind::kStoreOutputs, "k");
  EXPECT_EQ(mailbox_.depth(), 2u);
}

// What is left behind may take minutes; everybody's outputs are stored aside, and other stores are not away.
TEST(ThreadExecutor, SlowWorkHoldsUpNothingElse) {
  ThreadExecutor executor;
  Mutex mutex;
  CondVar changed;
  int under_way = 0;
  bool aside = false, open = false;
  for (int i = 0; i < 5; ++i) {
    executor.Slowly(std::chrono::milliseconds(0), [&] {
      MutexLock lock(&mutex);
      ++under_way;
      changed.NotifyAll();
      while (!open) changed.Wait(&mutex);
    });
  }
  bool early = false;
  executor.Slowly(std::chrono::hours(1), [&] { early = true; });
  executor.Aside(1, [&] {
    MutexLock lock(&mutex);
    aside = true;
    changed.NotifyAll();
  });
  {
    MutexLock lock(&mutex);
    while (!aside || under_way < 5) changed.Wait(&mutex);
    open = true;
    changed.NotifyAll();
  }
  executor.Stop();  // drops what waits for its time
  EXPECT_FALSE(early);
}

TEST(SlowPool, NoMoreThanItsThreadsAndEachInItsTime) {
  SlowPool pool(2);
  Mutex mutex;
  CondVar changed;
  int at_once = 0, most = 0, done = 0;
  for (int i = 0; i < 6; ++i) {
    pool.Add(std::chrono::milliseconds(0), [&] {
      MutexLock lock(&mutex);
      most = std::max(most, ++at_once);
      if (done == 0) changed.WaitFor(&mutex, std::chrono::milliseconds(20));
      --at_once;
      ++done;
      changed.NotifyAll();
    });
  }
  bool late = false, held_up = false;
  {
    MutexLock lock(&mutex);
    while (done < 6) changed.Wait(&mutex);
  }
  EXPECT_LE(most, 2);
  // The thread that waited for the later one's time is the one that the earlier one blocks.
  pool.Add(std::chrono::milliseconds(50), [&] {
    MutexLock lock(&mutex);
    late = true;
    changed.NotifyAll();
  });
  pool.Add(std::chrono::milliseconds(1), [&] {
    MutexLock lock(&mutex);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!late && std::chrono::steady_clock::now() < until) changed.WaitFor(&mutex, std::chrono::seconds(1));
    held_up = !late;
    ++done;
    changed.NotifyAll();
  });
  {
    MutexLock lock(&mutex);
    while (done < 7) changed.Wait(&mutex);
    EXPECT_FALSE(held_up);
  }
  pool.Stop();
}

}  // namespace
}  // namespace orch
