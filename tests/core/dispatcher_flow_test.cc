// Order, fan-out and fan-in, execution modes, retries, back-off and time-outs.
#include "gmock/gmock.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(FlowTest, ChainRunsInOrderAndEnds) {
  Scene s;
  s.Submit(Dag("a->b b->c"));
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  s.Accept("a");
  EXPECT_EQ(s.State("a"), StepState::kQueued);
  s.Start("a");
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.End("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "submit b"));
  s.Succeed("b");
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:SUCCEEDED c:SUCCEEDED");
  EXPECT_EQ(s.core().live_runs(), 0u);
  EXPECT_EQ(s.core().live_attempts(), 0);
}

TEST(FlowTest, DiamondWaitsForBothSides) {
  Scene s;
  s.Submit(Dag("a->b,c b,c->d"));
  s.Succeed("a");
  s.Succeed("c");
  EXPECT_EQ(s.State("d"), StepState::kWaiting);
  s.Succeed("b");
  EXPECT_EQ(s.State("d"), StepState::kSubmitting);
}

TEST(FlowTest, AnArtifactHasTheTypeThatItsAuthorGaveIt) {
  Scene s;
  PipelineBuilder pipeline;
  pipeline.Step("a").Out("plain").Out("table").Out("n", true).Out("score", true);
  pipeline.step().outputs[1].type = "csv";
  pipeline.step().outputs[3].type = "float";
  s.Submit(pipeline);
  s.Start("a");
  s.End("a");
  s.Store("a");
  std::vector<std::string> types;
  for (const ArtifactRow& row : s.store().artifacts()) types.push_back(row.type);
  EXPECT_THAT(types, ElementsAre("file", "csv", "value", "float"));
}

TEST(FlowTest, OutputsLandBeforeDependantsStart) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Out("x").Step("b").In("x", "a.x"));
  s.Start("a");
  (void)s.Wants();
  s.End("a");
  EXPECT_THAT(s.Wants(), ElementsAre("store a"));
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  EXPECT_EQ(s.State("b"), StepState::kWaiting);
  EXPECT_EQ(s.core().PoolUse().count("o/cpu"), 0u) << "its slots are free while it stores";
  s.Store("a");
  ASSERT_EQ(s.store().artifacts().size(), 1u);
  EXPECT_EQ(s.store().artifacts()[0].name, "p.a.x");
  ASSERT_EQ(s.intents().back().ref.ix, 1u);
  EXPECT_THAT(s.intents().back().inputs, ElementsAre(ElementsAre(1)));
}

// Lineage follows from it: of each producer the newest artifact up to the number was read.
TEST(FlowTest, AnAttemptRecordsHowFarArtifactsHadComeWhenItWasSubmitted) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Out("x").Step("b").In("x", "a.x").Step("c").Out("y"));
  EXPECT_EQ(s.Attempt("a", 1).inputs_upto, 0);
  s.Succeed("a");
  EXPECT_EQ(s.Attempt("b", 1).inputs_upto, 1);
  s.Refuse("b", /*transient=*/true);
  s.Succeed("c");  // lands while b waits
  (void)s.Wants();
  s.Pass(120 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
  EXPECT_EQ(s.Attempt("b", 1).inputs_upto, 2) << "it is submitted again, with what there is then";
  s.Restart();
  EXPECT_EQ(s.Attempt("b", 1).inputs_upto, 2);
}

// Timers go by the time since the machine's start; what is shown is never less than nothing.
TEST(FlowTest, AJumpOfTheWallClockMovesNoTimer) {
  constexpr int64_t kDay = 24 * 3600 * kSecond;
  for (const int64_t jump : {-kDay, -kDay / 24, kDay / 24, kDay}) {
    SCOPED_TRACE(jump / kSecond);
    Scene s;
    s.Submit(PipelineBuilder().Step("slow").Run(20 * kSecond).Step("again").Attempts(2, 10 * kSecond));
    s.Start("slow");
    s.Start("again");
    s.JumpWall(jump);
    s.Fail("again");
    EXPECT_EQ(s.State("again"), StepState::kBackoff);
    s.Pass(5 * kSecond);
    EXPECT_EQ(s.State("again"), StepState::kBackoff) << "the back-off ended too soon";
    s.Pass(10 * kSecond);
    EXPECT_NE(s.State("again"), StepState::kBackoff) << "the back-off did not end in time";
    EXPECT_EQ(s.State("slow"), StepState::kRunning) << "timed out too soon";
    s.Pass(10 * kSecond);
    EXPECT_EQ(s.State("slow"), StepState::kStopping) << "not timed out in time";
    s.EndStopped("slow");
    s.Succeed("again");
    EXPECT_EQ(s.State("slow"), StepState::kFailed);
    for (const char* step : {"slow", "again"}) EXPECT_GE(s.Row(step).ended, s.Row(step).started) << step;
    EXPECT_GE(s.Attempt("slow", 1).ended, s.Attempt("slow", 1).started);
    EXPECT_GE(s.Attempt("again", 1).ended, s.Attempt("again", 1).started);
  }
}

TEST(FlowTest, FanOutAndFanIn) {
  Scene s;
  s.Submit(PipelineBuilder()
               .Step("t")
               .Foreach("k", {"1", "2", "3"})
               .Out("m")
               .Step("e")
               .Foreach("k", {"3", "1"})
               .In("m", "t[item].m")
               .Step("all")
               .In("ms", "t[*].m"));
  EXPECT_THAT(s.Wants(), ElementsAre("submit t[0]", "submit t[1]", "submit t[2]"));
  s.Succeed("t[0]");
  EXPECT_EQ(s.State("e[1]"), StepState::kSubmitting) << "the one with the same item";
  EXPECT_EQ(s.State("e[0]"), StepState::kWaiting);
  s.Succeed("t[2]");
  EXPECT_EQ(s.State("e[0]"), StepState::kSubmitting);
  EXPECT_EQ(s.State("all"), StepState::kWaiting);
  s.Succeed("t[1]");
  EXPECT_EQ(s.State("all"), StepState::kSubmitting);
  EXPECT_THAT(s.intents().back().inputs, ElementsAre(ElementsAre(1, 3, 2))) << "in item order";
}

TEST(FlowTest, AnEmptyFanOutIsOk) {
  Scene s;
  s.Submit(PipelineBuilder().Step("t").Foreach("k", {}).Out("m").Step("all").In("ms", "t[*].m"));
  EXPECT_EQ(s.State("all"), StepState::kSubmitting);
  s.Succeed("all");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(FlowTest, ARunWithoutStepsEnds) {
  Scene s;
  s.Submit(PipelineBuilder().Step("t").Foreach("k", {}));
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(FlowTest, AWideFanOutIsToldInSlices) {
  CorePolicy policy;
  policy.slice = 7;
  policy.grants = 5;
  Scene s(policy);
  std::vector<std::string> items;
  for (int i = 0; i < 500; ++i) items.push_back(std::to_string(i));
  s.Submit(PipelineBuilder().Step("a").Step("t").Foreach("k", items).After({"a"}).Step("z").After({"t"}));
  s.Succeed("a");
  EXPECT_EQ(s.core().live_attempts(), 500);
  for (int i = 0; i < 500; ++i) s.Succeed("t[" + std::to_string(i) + "]");
  s.Succeed("z");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(FlowTest, AWideRunDoesNotKeepTheNextOneWaiting) {
  std::vector<std::string> items;
  for (int i = 0; i < 50'000; ++i) items.push_back(std::to_string(i));
  const Now now{1, 1};
  Dispatcher core(CorePolicy{});
  ASSERT_TRUE(core.Apply(OrchestratorChanged{"o", true, {}, 0}, now).ok());
  for (const auto& graph : {PipelineBuilder().Step("t").Foreach("k", items).Graph(), Dag("a").Graph()}) {
    RunSubmitted event;
    event.graph = graph;
    event.header.orchestrator = "o";
    ASSERT_TRUE(core.Apply(std::move(event), now).ok());
  }
  const RunKey second = core.last_run_key();
  int ticks = 0;
  for (bool started = false; !started; ++ticks) {
    ASSERT_LT(ticks, 50) << "the last";
    core.Tick(now);
    for (const Intent& intent : core.Take().intents) started = started || intent.ref.run == second;
  }
  EXPECT_LE(ticks, 3);
}

TEST(FlowTest, ContinueOnFailureSkipsOnlyWhatDepends) {
  Scene s;
  s.Submit(Dag("a->b b->c d->e"));
  s.Fail("a");
  EXPECT_EQ(s.ReasonOf("b"), Reason::kUpstreamFailed);
  EXPECT_EQ(s.ReasonOf("c"), Reason::kUpstreamFailed);
  EXPECT_EQ(s.Run(), RunState::kRunning);
  s.Succeed("d");
  s.Succeed("e");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_EQ(s.RunReason(), Reason::kStepFailed);
  EXPECT_EQ(s.States(), "a:FAILED b:SKIPPED c:SKIPPED d:SUCCEEDED e:SUCCEEDED");
}

TEST(FlowTest, FailFastStopsWhatRuns) {
  Scene s;
  s.Submit(Dag("a d->e"), {ExecutionMode::kFailFast});
  s.Start("d");
  (void)s.Wants();
  s.Fail("a");
  EXPECT_EQ(s.Run(), RunState::kHalting);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel d", "release a"));
  s.EndStopped("d");
  EXPECT_EQ(s.States(), "a:FAILED d:CANCELLED e:SKIPPED");
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(FlowTest, StopOnFailureLetsWhatRunsEnd) {
  Scene s;
  s.Submit(Dag("a d->e"), {ExecutionMode::kStopOnFailure});
  s.Start("d");
  s.Fail("a");
  EXPECT_EQ(s.Run(), RunState::kHalting);
  EXPECT_EQ(s.State("d"), StepState::kRunning);
  EXPECT_EQ(s.State("e"), StepState::kSkipped);
  s.End("d");
  EXPECT_EQ(s.State("d"), StepState::kSucceeded);
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(FlowTest, TriggerRules) {
  Scene t;
  PipelineBuilder p;
  p.Step("a").Step("b");
  p.Step("done").After({"a", "b"}).Rule(TriggerRule::kAllDone);
  p.Step("one").After({"a", "b"}).Rule(TriggerRule::kOneSuccess);
  p.Step("bad").After({"a", "b"}).Rule(TriggerRule::kOneFailed);
  p.Step("allbad").After({"a", "b"}).Rule(TriggerRule::kAllFailed);
  p.Step("none").After({"a", "b"}).Rule(TriggerRule::kNoneFailed);
  p.Step("all").After({"a", "b"});
  t.Submit(std::move(p));
  t.Fail("a");
  EXPECT_EQ(t.State("one"), StepState::kWaiting) << "judged when all have ended";
  t.Succeed("b");
  EXPECT_EQ(t.States(),
            "a:FAILED b:SUCCEEDED done:SUBMITTING one:SUBMITTING bad:SUBMITTING allbad:SKIPPED none:SKIPPED "
            "all:SKIPPED");
  EXPECT_EQ(t.ReasonOf("allbad"), Reason::kTriggerRule);
  EXPECT_EQ(t.ReasonOf("none"), Reason::kUpstreamFailed);
}

TEST(FlowTest, AMissingInputIsAbsentUnderAllDone) {
  Scene s;
  PipelineBuilder p;
  p.Step("t").Foreach("k", {"1", "2"}).Out("m").Step("z").In("ms", "t[*].m").Rule(TriggerRule::kAllDone);
  s.Submit(std::move(p));
  s.Start("t[0]");
  s.Publish("t[0]");
  s.End("t[0]", Reason::kExitCode);
  s.Succeed("t[1]");
  EXPECT_EQ(s.State("z"), StepState::kSubmitting);
  EXPECT_THAT(s.intents().back().inputs, ElementsAre(ElementsAre(0, 2))) << "early bytes of a failed step do not count";
}

TEST(RetryTest, BackOffThenAnotherAttempt) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(3, 2 * kSecond));
  s.Fail("a");
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "submit a"));
  s.Pass(2 * kSecond - 1);
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  s.Pass(1);
  EXPECT_EQ(s.State("a"), StepState::kSubmitting);
  EXPECT_EQ(s.Ref("a").attempt, 2u);
  s.Fail("a");
  s.Pass(4 * kSecond - 1);
  EXPECT_EQ(s.State("a"), StepState::kBackoff) << "twice as long";
  s.Pass(1);
  s.Fail("a");
  EXPECT_EQ(s.State("a"), StepState::kFailed);
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_NE(s.Attempt("a", 1).key, s.Attempt("a", 2).key);
}

TEST(AttemptTest, WhatItsPlatformWaitsForIsShownUntilItBegins) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a"));
  EXPECT_TRUE(s.Apply(AttemptHeldUp{s.Ref("a"), Reason::kUnschedulable, "too early"}).ok());
  EXPECT_EQ(s.Row("a").message, "") << "it has not been accepted";
  EXPECT_TRUE(s.Apply(AttemptAccepted{s.Ref("a"), "handle", "ext", ""}).ok());
  EXPECT_TRUE(s.Apply(AttemptHeldUp{s.Ref("a"), Reason::kUnschedulable, "no node"}).ok());
  EXPECT_TRUE(s.Apply(AttemptHeldUp{s.Ref("a"), Reason::kImagePullFailed, "no image"}).ok());
  EXPECT_EQ(s.State("a"), StepState::kQueued);
  EXPECT_EQ(s.Row("a").message, "no image");
  EXPECT_EQ(s.Row("a").reason, Reason::kImagePullFailed);
  s.Start("a");
  EXPECT_EQ(s.Row("a").message, "");
  EXPECT_EQ(s.Row("a").reason, Reason::kNone);
  EXPECT_TRUE(s.Apply(AttemptHeldUp{s.Ref("a"), Reason::kUnschedulable, "too late"}).ok());
  EXPECT_EQ(s.Row("a").message, "");
}

TEST(RetryTest, LateReportsOfAnOlderAttemptChangeNothing) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(2));
  s.Fail("a");
  s.Pass(kSecond);
  const int64_t late = s.core().late_events();
  AttemptEnd end;
  end.exit_code = 0;
  EXPECT_TRUE(s.Apply(AttemptEnded{s.Ref("a", 1), end}).ok());
  EXPECT_TRUE(s.Apply(AttemptStarted{s.Ref("a", 1), "", "", 0}).ok());
  EXPECT_TRUE(s.Apply(AttemptEnded{{999, 0, 1}, end}).ok());
  EXPECT_EQ(s.core().late_events(), late + 3);
  EXPECT_EQ(s.State("a"), StepState::kSubmitting);
}

TEST(RetryTest, RepeatedEndsAndStartsCountOnce) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Out("x"));
  s.Accept("a");
  s.Start("a");
  s.Start("a");
  s.Accept("a");
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  s.End("a");
  (void)s.Wants();
  s.End("a");
  s.End("a", Reason::kExitCode);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Store("a");
  EXPECT_EQ(s.State("a"), StepState::kSucceeded);
}

TEST(RetryTest, RefusedForNowIsSubmittedAgainUnderTheSameKey) {
  Scene s;
  s.Submit(Dag("a"));
  const std::string key = s.intents().back().key;
  (void)s.Wants();
  s.Refuse("a", true);
  s.Pass(499'999);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Pass(1);
  ASSERT_EQ(s.intents().size(), 1u);
  EXPECT_EQ(s.intents().back().key, key);
  s.Refuse("a", true);
  s.Pass(kSecond - 1);
  EXPECT_EQ(s.intents().size(), 1u);
  s.Pass(1);
  EXPECT_EQ(s.intents().size(), 2u);
  s.Succeed("a");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryTest, RefusedForGoodFails) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Attempts(5));
  s.Refuse("a", false);
  EXPECT_EQ(s.State("a"), StepState::kFailed);
  EXPECT_EQ(s.ReasonOf("a"), Reason::kSubmitRefused);
}

TEST(RetryTest, NotFoundIsSubmittedAgainOrLost) {
  Scene s;
  s.Submit(Dag("a b"));
  (void)s.Wants();
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("a")}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  s.Start("b");
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("b")}).ok());
  EXPECT_EQ(s.State("b"), StepState::kFailed);
  EXPECT_EQ(s.ReasonOf("b"), Reason::kLost);
  EXPECT_EQ(s.Attempt("b", 1).state, AttemptState::kLost);
}

TEST(RetryTest, AnAcceptedAttemptDoesNotWaitToBeSubmittedAgain) {
  Scene s;
  s.Submit(Dag("a"));
  s.Refuse("a", true);
  s.Accept("a");
  s.Start("a");
  (void)s.Wants();
  s.Cancel();
  EXPECT_EQ(s.State("a"), StepState::kStopping) << "its job has to be stopped first";
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
}

TEST(TimeoutTest, InTheQueue) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Queue(10 * kSecond));
  s.Accept("a");
  (void)s.Wants();
  s.Pass(10 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kStopping);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
  s.EndStopped("a");
  EXPECT_EQ(s.Attempt("a", 1).state, AttemptState::kTimedOut);
  EXPECT_EQ(s.ReasonOf("a"), Reason::kQueueTimeout);
}

TEST(TimeoutTest, OfARunningStepAndARetry) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Run(5 * kSecond).Attempts(2));
  s.Start("a");
  s.Pass(5 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kStopping);
  s.EndStopped("a");
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  s.Pass(kSecond);
  s.Succeed("a");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(TimeoutTest, AnEndBeforeTheSignalIsNoTimeout) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Run(5 * kSecond));
  s.Start("a");
  s.Pass(5 * kSecond);
  s.End("a", Reason::kExitCode);  // its main process had ended before the signal
  EXPECT_EQ(s.Attempt("a", 1).state, AttemptState::kFailed);
  EXPECT_EQ(s.ReasonOf("a"), Reason::kExitCode);
}

TEST(TimeoutTest, StoringDoesNotCount) {
  Scene s;
  s.Submit(PipelineBuilder().Step("a").Run(5 * kSecond).Out("x"));
  s.Start("a");
  s.End("a");
  s.Pass(50 * kSecond);
  s.Store("a");
  EXPECT_EQ(s.State("a"), StepState::kSucceeded);
}

TEST(TimeoutTest, OfTheWholeRun) {
  Scene s;
  s.Submit(Dag("a->b c"), {ExecutionMode::kContinueOnFailure, 0, 60 * kSecond});
  s.Start("a");
  s.Start("c");
  (void)s.Wants();
  s.Pass(60 * kSecond);
  EXPECT_EQ(s.Run(), RunState::kHalting);
  EXPECT_EQ(s.RunReason(), Reason::kRunDeadline);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a", "cancel c"));
  s.EndStopped("a");
  s.EndStopped("c");
  EXPECT_EQ(s.States(), "a:CANCELLED b:SKIPPED c:CANCELLED");
  EXPECT_EQ(s.ReasonOf("b"), Reason::kRunDeadline);
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(TimeoutTest, OfARunThatHaltsAlready) {
  Scene s;
  s.Submit(Dag("a b->c"), {ExecutionMode::kStopOnFailure, 0, 60 * kSecond});
  s.Start("b");
  s.Fail("a");
  EXPECT_EQ(s.Run(), RunState::kHalting);
  (void)s.Wants();
  s.Restart();
  (void)s.Wants();
  s.Pass(61 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel b"));
  EXPECT_EQ(s.ReasonOf("b"), Reason::kRunDeadline);
  s.EndStopped("b");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_EQ(s.RunReason(), Reason::kStepFailed) << "what came first";
}

TEST(TimeoutTest, ThoseOfWhatHasEndedAreDropped) {
  Scene s;
  PipelineBuilder p;
  for (int i = 0; i < 300; ++i) p.Step(absl::StrCat("s", i)).Run(30 * 86'400 * kSecond).Queue(86'400 * kSecond);
  for (int run = 0; run < 30; ++run) {
    s.Submit(p);
    for (int i = 0; i < 300; ++i) s.Succeed(absl::StrCat("s", i));
    s.Pass(kSecond);
  }
  EXPECT_LT(s.core().timers(), 5000u) << "of 18,000";
}

TEST(SlotsTest, CapacityPoolsAndMaxParallel) {
  Scene s;
  s.Offer({{"cpu", 2000}});
  s.Submit(Dag("a b c"));
  EXPECT_EQ(s.core().live_attempts(), 2);
  s.Succeed("a");
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);

  Scene p;
  EXPECT_TRUE(p.Apply(PoolChanged{"db", 1, true}).ok());
  p.Submit(PipelineBuilder().Step("a").Pool("db", 1).Step("b").Pool("db", 1).Step("c"), {});
  EXPECT_EQ(p.States(), "a:SUBMITTING b:READY c:SUBMITTING");
  EXPECT_EQ(p.core().PoolUse()["pool/db"], 1);
  EXPECT_FALSE(p.Apply(PoolChanged{"db", 0, false}).ok()) << "in use";
  p.Fail("a");
  EXPECT_EQ(p.State("b"), StepState::kSubmitting);

  Scene m;
  m.Submit(Dag("a b c"), {ExecutionMode::kContinueOnFailure, 2});
  EXPECT_EQ(m.core().live_attempts(), 2);
  m.Succeed("a");
  m.Succeed("b");
  m.Succeed("c");
  m.Submit(Dag("a b c"), {ExecutionMode::kContinueOnFailure, 1});
  EXPECT_EQ(m.core().live_attempts(), 1) << "a pool's number is used again with its own limit";
}

TEST(SlotsTest, PriorityGoesFirst) {
  Scene s;
  s.Offer({}, 1);
  s.Submit(PipelineBuilder().Step("a").Step("b").Step("c").Priority(5).Step("d").Priority(9));
  EXPECT_EQ(s.States(), "a:READY b:READY c:READY d:SUBMITTING");
  s.Succeed("d");
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);
}

TEST(SlotsTest, TheLongestWayToTheEndGoesBeforeAge) {
  Scene s;
  s.Offer({}, 1);
  s.Submit(Dag("lone short->end long->mid mid->last"));
  EXPECT_EQ(s.State("long"), StepState::kSubmitting) << "two steps wait below it";
  s.Succeed("long");
  EXPECT_EQ(s.State("short"), StepState::kSubmitting) << "as long as mid, and older";
  s.Succeed("short");
  EXPECT_EQ(s.State("mid"), StepState::kSubmitting);
  s.Succeed("mid");
  EXPECT_EQ(s.State("lone"), StepState::kSubmitting) << "nothing is left below any: age decides";
  Scene p;
  p.Offer({}, 1);
  p.Submit(PipelineBuilder().Step("a").Step("b").After({"a"}).Step("c").Priority(1));
  EXPECT_EQ(p.State("c"), StepState::kSubmitting) << "priority comes first";
}

TEST(SlotsTest, AgeOutlivesARestart) {
  Scene s;
  s.Offer({}, 1);
  const RunKey first = s.Submit(PipelineBuilder().Step("holds").Priority(9).Step("late").Priority(-1));
  s.Pass(kSecond);
  const RunKey second = s.Submit(PipelineBuilder().Step("early").Step("other"));
  s.Pass(29 * kSecond);
  s.Restart();
  s.Use(first);
  s.Succeed("holds");
  s.Use(second);
  EXPECT_EQ(s.State("early"), StepState::kSubmitting);
  const RunInMemory* run = s.core().Find(first);
  ASSERT_NE(run, nullptr);
  EXPECT_LE(run->details.at(1).entry.ready_mono, s.now() - 30 * kSecond) << "it has waited since before the restart";
}

TEST(SlotsTest, AStepThatHasWaitedLongReservesWhatItNeeds) {
  Scene s;
  s.Offer({{"cpu", 2000}});
  const RunKey holder = s.Submit(PipelineBuilder().Step("holds").Cpu(1000));
  const RunKey big = s.Submit(PipelineBuilder().Step("big").Cpu(2000));
  s.Pass(29 * kSecond);
  s.Submit(PipelineBuilder().Step("passes").Cpu(1000));
  EXPECT_EQ(s.State("passes"), StepState::kSubmitting) << "it fits and the other does not";
  s.Succeed("passes");
  s.Pass(2 * kSecond);
  const RunKey late = s.Submit(PipelineBuilder().Step("late").Cpu(1000));
  EXPECT_EQ(s.State("late"), StepState::kReady) << "30 s are over: nothing passes any more";
  s.Use(holder);
  s.Succeed("holds");
  s.Use(big);
  EXPECT_EQ(s.State("big"), StepState::kSubmitting);
  s.Succeed("big");
  s.Use(late);
  EXPECT_EQ(s.State("late"), StepState::kSubmitting);
}

TEST(SecretsTest, OneThatAStepStillNeedsStays) {
  Scene s;
  PipelineBuilder pipeline = std::move(PipelineBuilder().Step("a").Step("b").After({"a"}));
  pipeline.options().secrets.push_back({"PW", "db", false});
  s.Submit(pipeline);
  EXPECT_TRUE(s.Apply(SecretRemoved{"default", "other", false}).ok());
  EXPECT_TRUE(s.Apply(SecretRemoved{"elsewhere", "db", false}).ok());
  EXPECT_EQ(orch::ReasonOf(s.Apply(SecretRemoved{"default", "db", false})), "SECRET_IN_USE");
  s.Restart();
  EXPECT_EQ(orch::ReasonOf(s.Apply(SecretRemoved{"default", "db", false})), "SECRET_IN_USE");
  EXPECT_TRUE(s.Apply(SecretRemoved{"default", "db", true}).ok());
  s.Succeed("a");
  s.Start("b");
  EXPECT_FALSE(s.Apply(SecretRemoved{"default", "db", false}).ok()) << "it may be tried again";
  s.End("b");
  EXPECT_TRUE(s.Apply(SecretRemoved{"default", "db", false}).ok());
}

TEST(SlotsTest, AnUnhealthyOrAbsentOrchestratorGetsNothing) {
  Scene s;
  EXPECT_TRUE(s.Apply(OrchestratorHealthChanged{"o", false, "it is away"}).ok());
  s.Submit(Dag("a"));
  EXPECT_EQ(s.State("a"), StepState::kReady);
  EXPECT_FALSE(s.Apply(OrchestratorRemoved{"o"}).ok());
  EXPECT_TRUE(s.Apply(OrchestratorHealthChanged{"o", true, ""}).ok());
  EXPECT_EQ(s.State("a"), StepState::kSubmitting);
  s.Succeed("a");
  EXPECT_TRUE(s.Apply(OrchestratorRemoved{"o"}).ok());
}

TEST(SlotsTest, NoMoreRunsThanMayLive) {
  CorePolicy policy;
  policy.live_runs = 2;
  Scene s(policy);
  s.Submit(Dag("a"));
  s.Submit(Dag("a"));
  RunSubmitted third;
  third.header.id = "third";
  third.header.orchestrator = "o";
  third.graph = Dag("a").Graph();
  EXPECT_EQ(ReasonOf(s.Apply(third)), "TOO_MANY_RUNS");
  s.Succeed("a");
  EXPECT_EQ(s.core().live_runs(), 1u);
  s.Submit(Dag("a"));
}

// Its client looked before it was taken away, and comes after.
TEST(SlotsTest, ARunThatNeedsWhatIsGoneIsRefused) {
  Scene s;
  const auto submit = [&](const char* store, const char* pool) {
    PipelineBuilder p;
    p.Step("a");
    if (*pool != 0) p.Pool(pool, 1);
    RunSubmitted event;
    event.header.id = "late";
    event.header.orchestrator = "o";
    event.header.artifact_store = store;
    event.graph = p.Graph();
    return std::string(ReasonOf(s.Apply(std::move(event))));
  };
  EXPECT_TRUE(s.Apply(OrchestratorRemoved{"o"}).ok());
  EXPECT_EQ(submit("", ""), "ORCHESTRATOR_NOT_FOUND");
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o"}).ok());
  EXPECT_TRUE(s.Apply(PoolChanged{"db", 2, false}).ok());
  EXPECT_EQ(submit("", "db"), "POOL_NOT_FOUND");
  EXPECT_TRUE(s.Apply(ArtifactStoreChanged{"team", false}).ok());
  EXPECT_EQ(submit("team", ""), "ARTIFACT_STORE_NOT_FOUND");
  EXPECT_EQ(s.core().live_runs(), 0u);
}

TEST(SlotsTest, AStoreThatALiveRunNeedsStays) {
  Scene s;
  RunSubmitted event;
  event.header.artifact_store = "team";
  event.graph = Dag("a").Graph();
  s.Submit(std::move(event));
  EXPECT_EQ(ReasonOf(s.Apply(ArtifactStoreChanged{"team", false})), "ARTIFACT_STORE_IN_USE");
  s.Succeed("a");
  EXPECT_TRUE(s.Apply(ArtifactStoreChanged{"team", false}).ok());
}

TEST(SlotsTest, AReadyThatLastsIsShown) {
  Scene s;
  s.Offer({}, 1);
  s.Submit(Dag("a b"));
  EXPECT_EQ(s.store().FindStep(1, 1), nullptr);
  s.Pass(50'000);
  ASSERT_NE(s.store().FindStep(1, 1), nullptr);
  EXPECT_EQ(s.Row("b").state, StepState::kReady);
}

}  // namespace
}  // namespace orch::testing
