// Cancels, early publication, the cache, and the way back from the store.
#include "gmock/gmock.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(CancelTest, GracefulThenForced) {
  Scene s;
  s.Submit(Dag("a->b"));
  s.Start("a");
  (void)s.Wants();
  s.Cancel();
  EXPECT_EQ(s.Run(), RunState::kCancelling);
  EXPECT_EQ(s.State("b"), StepState::kCancelled);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
  s.Cancel();
  EXPECT_THAT(s.Wants(), IsEmpty()) << "a repeated cancel sends nothing";
  s.Pass(15 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel! a")) << "a platform that ignores it is asked by force";
  s.Pass(30 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel! a"));
  s.EndStopped("a");
  EXPECT_EQ(s.State("a"), StepState::kCancelled);
  EXPECT_EQ(s.Run(), RunState::kCancelled);
  s.Cancel();  // of an ended run: nothing
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, ForcedAtOnceAndAfterwards) {
  Scene s;
  s.Submit(Dag("a"));
  s.Start("a");
  (void)s.Wants();
  s.Cancel();
  (void)s.Wants();
  s.Cancel(true);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel! a"));

  Scene t;
  t.Submit(Dag("a"));
  t.Start("a");
  (void)t.Wants();
  t.Cancel(true);
  EXPECT_THAT(t.Wants(), ElementsAre("cancel! a"));
}

TEST(CancelTest, ForcedWhileItIsCancelledStaysSoOverARestart) {
  Scene s;
  s.Submit(Dag("a"));
  s.Start("a");
  s.Cancel();
  s.Cancel(true);
  (void)s.Wants();
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("cancel! a"));
}

TEST(CancelTest, CrossesTheAnswer) {
  Scene s;
  s.Submit(Dag("a"));
  s.Cancel();
  (void)s.Wants();
  s.Accept("a");
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a")) << "the first may have come too soon";
  s.EndStopped("a");
  EXPECT_EQ(s.State("a"), StepState::kCancelled);
}

TEST(CancelTest, CrossesARefusal) {
  Scene s;
  s.Submit(Dag("a"));
  s.Cancel();
  s.Refuse("a", true);
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, WhileItWaitsToBeSubmittedAgain) {
  Scene s;
  s.Submit(Dag("a"));
  s.Refuse("a", true);
  s.Cancel();
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, WhileStoringTheOutputsCount) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Out("x").Step("b").After({"a"}));
  s.Start("a");
  s.End("a");
  (void)s.Wants();
  s.Cancel();
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Store("a");
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:CANCELLED");
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, AnEndBeforeTheSignalCounts) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Step("b").Attempts(3));
  s.Start("a");
  s.Start("b");
  s.Cancel();
  s.End("a");
  s.End("b", Reason::kExitCode);
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:FAILED");
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, OfOneStepThatFailedMeanwhileIsNotRetried) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(3).Step("b"));
  s.Start("a");
  s.Cancel(false, {"a"});
  s.End("a", Reason::kExitCode);  // before the signal
  EXPECT_EQ(s.State("a"), StepState::kFailed);
  s.Succeed("b");
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(CancelTest, OfOneStepWhoseOutputsCannotBeStoredIsNotRetried) {
  for (const bool before_its_end : {false, true}) {
    Scene s;
    s.Submit(PipelineBuilder().Step("a").Out("x").Attempts(3).Step("b"));
    s.Start("a");
    if (before_its_end) s.Cancel(false, {"a"});
    s.End("a");  // its command had ended before the signal
    if (!before_its_end) s.Cancel(false, {"a"});
    EXPECT_EQ(s.State("a"), StepState::kRunning);
    EXPECT_TRUE(s.Apply(OutputsStored{s.Ref("a"), {}, Reason::kStoreFailed, "no", false}).ok());
    EXPECT_EQ(s.State("a"), StepState::kFailed);
    s.Succeed("b");
    EXPECT_EQ(s.Run(), RunState::kFailed);
  }
}

TEST(CancelTest, OfOneStepThatStopsForItsTimeIsNotRetried) {
  for (const bool restart : {false, true}) {
    Scene s;
    s.Submit(PipelineBuilder().Step("a").Attempts(3).Run(kSecond).Step("b"));
    s.Start("a");
    s.Pass(kSecond);
    EXPECT_EQ(s.State("a"), StepState::kStopping);
    s.Cancel(false, {"a"});
    if (restart) s.Restart();
    s.EndStopped("a");
    EXPECT_EQ(s.State("a"), StepState::kCancelled);
    EXPECT_EQ(s.ReasonOf("a"), Reason::kCancelRequested);
    s.Succeed("b");
  }
}

TEST(CancelTest, OfSingleSteps) {
  Scene s;
  s.Submit(Dag("a->b c->d"));
  s.Start("a");
  s.Cancel(false, {"a", "d"});
  s.EndStopped("a");
  EXPECT_EQ(s.State("d"), StepState::kCancelled);
  EXPECT_EQ(s.ReasonOf("b"), Reason::kUpstreamFailed);
  EXPECT_EQ(s.Run(), RunState::kRunning);
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_FALSE(s.Apply(CancelRequested{s.Submit(Dag("a")), {7}, false}).ok()) << "no such step";
}

TEST(CancelTest, InBackOff) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(3));
  s.Fail("a");
  s.Cancel();
  EXPECT_EQ(s.State("a"), StepState::kCancelled);
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(CancelTest, ABigRunStartsNothingMore) {
  CorePolicy policy;
  policy.slice = 3;
  policy.grants = 2;
  Scene s(policy);
  s.Offer({}, 1);
  std::string dag;
  for (int i = 0; i < 40; ++i) dag += "s" + std::to_string(i) + " ";
  s.Submit(Dag(dag));
  s.Start("s0");
  (void)s.Wants();
  s.HoldCommits(true);
  EXPECT_TRUE(s.core().Apply(CancelRequested{1, {}, false}, {s.now(), s.now()}).ok());
  AttemptEnd end;
  end.stopped = true;
  end.reason = Reason::kSignaled;
  EXPECT_TRUE(s.core().Apply(AttemptEnded{s.Ref("s0"), end}, {s.now(), s.now()}).ok());
  s.HoldCommits(false);
  s.Pass(1);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel s0", "release s0"));
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

PipelineBuilder Early() {
  return std::move(PipelineBuilder()
                       .Step("p")
                       .Out("x")
                       .Out("y")
                       .Attempts(2)
                       .Step("c")
                       .In("x", "p.x", true)
                       .Priority(1)
                       .Step("w")
                       .In("x", "p.x"));
}

TEST(EarlyTest, TheConsumerStartsBeforeTheEnd) {
  Scene s;
  s.Submit(Early());
  s.Start("p");
  EXPECT_EQ(s.State("c"), StepState::kWaiting);
  s.Publish("p");
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);
  EXPECT_EQ(s.State("w"), StepState::kWaiting);
  s.Publish("p");  // a repeat
  EXPECT_EQ(s.store().artifacts().size(), 1u);
  s.End("p");
  EXPECT_THAT(s.intents().back().published, ElementsAre(true, false));
  s.Store("p");
  EXPECT_EQ(s.store().artifacts().size(), 2u);
  EXPECT_EQ(s.State("w"), StepState::kSubmitting);
  EXPECT_FALSE(s.Apply(ArtifactPublished{s.Ref("p"), Output(0)}).ok()) << "nobody takes it now";
}

TEST(EarlyTest, ARetriedProducerPublishesAnew) {
  Scene s;
  s.Offer({}, 1);
  s.Submit(Early());
  s.Start("p");
  s.Publish("p");
  EXPECT_EQ(s.State("c"), StepState::kReady) << "no slot yet";
  EXPECT_TRUE(s.Apply(OrchestratorHealthChanged{"o", false, "it is away"}).ok());
  s.End("p", Reason::kExitCode);
  s.Pass(kSecond);
  EXPECT_TRUE(s.Apply(OrchestratorHealthChanged{"o", true, ""}).ok());
  s.Succeed("c");  // it goes first, with the first version
  s.Start("p");
  s.Publish("p");
  EXPECT_EQ(s.store().artifacts().size(), 2u);
  s.End("p");
  s.Store("p");
  s.Succeed("w");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(EarlyTest, AProducerThatFailsSkipsWhoHasNotStarted) {
  Scene s;
  s.Offer({}, 2);
  s.Submit(PipelineBuilder()
               .Step("p")
               .Out("x")
               .Step("c")
               .In("x", "p.x", true)
               .Priority(1)
               .Step("d")
               .In("x", "p.x", true)
               .Step("z")
               .After({"d"}));
  s.Start("p");
  s.Publish("p");
  s.Start("c");
  EXPECT_EQ(s.State("d"), StepState::kReady);
  s.End("p", Reason::kExitCode);
  EXPECT_EQ(s.State("c"), StepState::kRunning) << "it goes on with the bytes it has";
  EXPECT_EQ(s.State("d"), StepState::kSkipped);
  EXPECT_EQ(s.ReasonOf("z"), Reason::kUpstreamFailed);
  s.End("c");
  EXPECT_EQ(s.State("c"), StepState::kSucceeded);
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(EarlyTest, WithoutAPublicationTheEndCounts) {
  Scene s;
  s.Submit(Early());
  s.Start("p");
  s.End("p");
  s.Store("p");
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);
}

TEST(CacheTest, HitMissAndFailure) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Cache().Out("x").Step("b").Cache().Out("x").Step("c").Cache().Step("d").In(
      "x", "a.x"));
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a", "resolve b", "resolve c"));
  s.Resolve("a", true);
  EXPECT_EQ(s.State("a"), StepState::kCached);
  EXPECT_EQ(s.Row("a").cached_from, "earlier");
  EXPECT_EQ(s.State("d"), StepState::kSubmitting);
  s.Resolve("b", false, Reason::kNone, std::string(32, 'k'));
  EXPECT_EQ(s.State("b"), StepState::kSubmitting);
  s.Resolve("c", false, Reason::kInputMissing);
  EXPECT_EQ(s.State("c"), StepState::kFailed);
  const int64_t late = s.core().late_events();
  s.Resolve("b", true);
  EXPECT_EQ(s.core().late_events(), late + 1) << "an answer that nobody waits for";
  s.Succeed("b");
  ASSERT_EQ(s.store().cache().size(), 1u);
  EXPECT_EQ(s.store().cache()[0].key, std::string(32, 'k'));
}

TEST(CacheTest, ChangedSourceEntersNothing) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Cache().Out("x"));
  s.Resolve("a", false);
  s.Start("a");
  s.End("a");
  EXPECT_TRUE(s.Apply(OutputsStored{s.Ref("a"), {Output(0)}, Reason::kNone, "", true}).ok());
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_THAT(s.store().cache(), IsEmpty());
}

TEST(RestoreTest, EveryStateComesBack) {
  Scene s;
  s.Offer({{"cpu", 5000}});
  s.Submit(PipelineBuilder()
               .Step("done")
               .Step("sub")
               .Step("run")
               .Run(20 * kSecond)
               .Step("sto")
               .Out("x")
               .Step("back")
               .Attempts(2, 5 * kSecond)
               .Step("stop")
               .Run(kSecond)
               .Step("next")
               .After({"done", "sto"})
               .Step("res")
               .Cache()
               .After({"done"}));
  s.Succeed("done");
  s.Start("run");
  s.Start("sto");
  s.Start("stop");
  s.Fail("back");
  s.End("sto");
  s.Pass(kSecond);
  const std::string before = s.States();
  EXPECT_EQ(before,
            "done:SUCCEEDED sub:SUBMITTING run:RUNNING sto:RUNNING back:BACKOFF stop:STOPPING next:WAITING res:READY");
  const auto used = s.core().PoolUse();
  s.Restart();
  EXPECT_EQ(s.States(), before);
  EXPECT_EQ(s.core().PoolUse(), used);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel stop", "resolve res"));
  EXPECT_EQ(s.core().LiveAttempts().size(), 4u);
  // What the backend says when it is asked about each.
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("sub")}).ok());
  s.End("sto");
  s.EndStopped("stop");
  EXPECT_THAT(s.Wants(), ElementsAre("release stop", "store sto", "submit sub"));
  s.Store("sto");
  s.Pass(4 * kSecond);
  EXPECT_EQ(s.State("back"), StepState::kSubmitting);
  s.Pass(15 * kSecond);
  EXPECT_EQ(s.State("run"), StepState::kStopping) << "its time runs on";
}

TEST(RestoreTest, StoringTwiceStaysOnRecord) {
  Scene s;
  s.Offer({{"cpu", 1000}});
  s.Submit(PipelineBuilder().Step("a").Out("x").Step("b"));
  s.Start("a");
  s.End("a");
  EXPECT_EQ(s.State("b"), StepState::kSubmitting) << "in the slots of a";
  s.Restart();
  s.Accept("a");
  s.Restart();
  EXPECT_EQ(s.core().PoolUse()["o/cpu"], 1000);
  s.Cancel(false, {"a"});
  EXPECT_EQ(s.State("a"), StepState::kRunning) << "its command has ended: the outputs count";
  s.End("a");
  s.Store("a");
  EXPECT_EQ(s.State("a"), StepState::kSucceeded);
}

TEST(RestoreTest, WhatWasNotCommittedNeverHappened) {
  Scene s;
  s.Submit(Dag("a->b"));
  s.Start("a");
  s.HoldCommits(true);
  s.End("a");
  EXPECT_EQ(s.State("b"), StepState::kSubmitting);
  s.HoldCommits(false);
  s.Restart();
  EXPECT_EQ(s.States(), "a:RUNNING b:WAITING");
  s.End("a");
  s.Succeed("b");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RestoreTest, BudgetsAreCountedFromTheAttempts) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(2));
  s.Fail("a");
  s.Restart();
  s.Pass(kSecond);
  s.Fail("a");
  EXPECT_EQ(s.State("a"), StepState::kFailed);
}

TEST(RestoreTest, AStoppingRunGoesOnStopping) {
  Scene s;
  s.Submit(Dag("a->b c->d"), {ExecutionMode::kFailFast});
  s.Start("a");
  s.Fail("c");
  s.Restart();
  EXPECT_EQ(s.Run(), RunState::kHalting);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
  s.EndStopped("a");
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(RestoreTest, MoreEndsThanOneSliceAreNoFault) {
  CorePolicy policy;
  policy.slice = 2;
  Scene s(policy);
  std::string dag;
  for (int i = 0; i < 10; ++i) dag += "s" + std::to_string(i) + "->z ";
  s.Submit(Dag(dag));
  for (int i = 0; i < 10; ++i) s.Succeed("s" + std::to_string(i));
  s.Start("z");
  Dispatcher again(s.store().Continue({}));
  for (StoredRun& run : s.store().Open()) again.Restore(std::move(run), {s.now(), s.now()});
  EXPECT_TRUE(again.CheckInvariants().ok()) << again.CheckInvariants();
}

TEST(RestoreTest, EarlyEdgesStayClosed) {
  Scene s;
  s.Submit(Early());
  s.Start("p");
  s.Publish("p");
  s.Restart();
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);
  s.End("p");
  EXPECT_THAT(s.intents().back().published, ElementsAre(true, false));
  s.Store("p");
  EXPECT_EQ(s.State("w"), StepState::kSubmitting);
}

}  // namespace
}  // namespace orch::testing
