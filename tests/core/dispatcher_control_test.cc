// What clients ask of runs: pause, skip, retry, delete; and heartbeats.
#include "gmock/gmock.h"
#include "server/base/status.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Why(const absl::Status& status) { return orch::ReasonOf(status); }

// --- pause ---

TEST(PauseTest, NothingNewStartsAndWhatRunsGoesOn) {
  Scene s;
  s.Offer({}, 1);
  s.Submit(Dag("a->b c->d"));
  s.Start("a");
  (void)s.Wants();
  EXPECT_TRUE(s.Pause().ok());
  EXPECT_EQ(s.Run(), RunState::kPaused);
  EXPECT_TRUE(s.Pause().ok()) << "it is paused already";
  s.End("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a")) << "neither b nor c, though a slot is free";
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:READY c:READY d:WAITING");
  s.Restart();
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_EQ(s.Run(), RunState::kPaused);
  EXPECT_TRUE(s.Resume().ok());
  EXPECT_TRUE(s.Resume().ok());
  EXPECT_EQ(s.Run(), RunState::kRunning);
  EXPECT_THAT(s.Wants(), ElementsAre("submit c")) << "it has waited longest";
  s.Succeed("c");
  s.Succeed("b");
  s.Succeed("d");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(PauseTest, NoSlotIsKeptFromOthers) {
  Scene s;
  s.Offer({}, 1);
  const RunKey first = s.Submit(Dag("a"));
  s.Submit(Dag("b"));
  s.Use(first);
  s.Start("a");
  const RunKey third = s.Submit(Dag("c"));
  (void)s.Wants();
  s.Use(first + 1);
  EXPECT_TRUE(s.Pause().ok());
  s.Pass(60 * kSecond);  // long enough to reserve the pool
  s.Use(first);
  s.End("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "submit c")) << "b stood before it";
  s.Use(third);
  s.Succeed("c");
  s.Use(first + 1);
  EXPECT_TRUE(s.Resume().ok());
  s.Succeed("b");
}

TEST(PauseTest, TheCacheIsAskedAfterwards) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Step("b").After({"a"}).Out("x").Cache();
  s.Submit(p);
  EXPECT_TRUE(s.Pause().ok());
  s.Succeed("a");
  (void)s.Wants();
  s.Restart();
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_TRUE(s.Resume().ok());
  EXPECT_THAT(s.Wants(), ElementsAre("resolve b"));
  EXPECT_TRUE(s.Pause().ok());  // asked already: the answer counts
  s.Resolve("b", false);
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_TRUE(s.Resume().ok());
  EXPECT_THAT(s.Wants(), ElementsAre("resolve b")) << "another run may have computed it meanwhile";
  s.Resolve("b", false);
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
}

TEST(PauseTest, ARetryWaitsAndFailuresCount) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Attempts(2).Step("b");
  s.Submit(p, {ExecutionMode::kFailFast});
  s.Start("a");
  s.Start("b");
  EXPECT_TRUE(s.Pause().ok());
  s.End("a", Reason::kExitCode);
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  s.Pass(5 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kReady);
  (void)s.Wants();
  s.End("b", Reason::kExitCode);
  EXPECT_EQ(s.Run(), RunState::kFailed) << "fail_fast, also while it is paused";
  EXPECT_EQ(s.States(), "a:SKIPPED b:FAILED");
}

TEST(PauseTest, ItsTimeGoesOn) {
  Scene s;
  s.Submit(Dag("a->b"), {.timeout = 10 * kSecond});
  s.Succeed("a");
  EXPECT_TRUE(s.Pause().ok());
  s.Pass(11 * kSecond);
  EXPECT_EQ(s.RunReason(), Reason::kRunDeadline);
}

TEST(PauseTest, RefusedOnceItStops) {
  Scene s;
  s.Submit(Dag("a"));
  s.Start("a");
  s.Cancel();
  EXPECT_EQ(Why(s.Pause()), "RUN_STOPPING");
  EXPECT_EQ(Why(s.Resume()), "RUN_STOPPING");
  s.EndStopped("a");
  EXPECT_EQ(Why(s.Pause()), "RUN_ENDED");
  EXPECT_EQ(Why(s.Resume()), "RUN_ENDED");
  EXPECT_THAT(std::string(s.Resume().message()), HasSubstr("retry-run"));
}

TEST(PauseTest, APausedRunIsCancelled) {
  Scene s;
  s.Submit(Dag("a->b"));
  s.Start("a");
  EXPECT_TRUE(s.Pause().ok());
  s.Cancel();
  s.EndStopped("a");
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

// --- skip ---

TEST(SkipTest, CountsAsSkippedNotAsFailed) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Step("b").After({"a"}).Step("strict").After({"b"}).Step("lax").After({"b"}).Rule(
      TriggerRule::kNoneFailed);
  p.Step("alarm").After({"b"}).Rule(TriggerRule::kOneFailed);
  s.Submit(p);
  EXPECT_TRUE(s.Skip({"b"}).ok()) << "before its upstreams have ended";
  EXPECT_EQ(s.ReasonOf("b"), Reason::kSkipRequested);
  EXPECT_TRUE(s.Skip({"b"}).ok());
  EXPECT_EQ(s.State("strict"), StepState::kSkipped);
  EXPECT_EQ(s.ReasonOf("strict"), Reason::kUpstreamSkipped);
  EXPECT_EQ(s.ReasonOf("alarm"), Reason::kTriggerRule);
  s.Succeed("lax");
  s.Restart();
  s.Succeed("a");
  EXPECT_EQ(s.State("b"), StepState::kSkipped);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(SkipTest, OfWhatWaitsForASlotOrItsNextAttempt) {
  Scene s;
  s.Offer({}, 1);
  PipelineBuilder p;
  p.Step("a").Attempts(3, 60 * kSecond).Step("b");
  s.Submit(p);
  EXPECT_EQ(Why(s.Skip({"b", "a"})), "STEP_STARTED");
  EXPECT_THAT(std::string(s.Skip({"a"}).message()), HasSubstr("cancel-run --step"));
  EXPECT_EQ(s.State("b"), StepState::kReady) << "all or none";
  EXPECT_TRUE(s.Skip({"b"}).ok());
  s.Fail("a");
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  EXPECT_TRUE(s.Skip({"a"}).ok());
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_EQ(Why(s.Skip({"a"})), "RUN_ENDED");
  s.Submit(Dag("a b"));
  s.Succeed("a");
  EXPECT_EQ(Why(s.Skip({"a"})), "STEP_ENDED");
  EXPECT_EQ(Why(s.Apply(SkipRequested{s.Ref("a").run, {7}})), "STEP_NOT_FOUND");
}

TEST(SkipTest, TheAnswerOfTheCacheComesTooLate) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Cache();
  p.Step("b");
  s.Submit(p);
  EXPECT_TRUE(s.Skip({"a"}).ok());
  s.Resolve("a", true);
  EXPECT_EQ(s.State("a"), StepState::kSkipped);
}

// --- retry ---

TEST(RetryRunTest, WhatDidNotSucceedBeginsAgain) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x").Attempts(2).Step("c").After({"b"}).Step("d").After({"a"});
  s.Submit(p);
  s.Succeed("a");
  s.Succeed("d");
  s.Fail("b");
  s.Pass(2 * kSecond);
  s.Fail("b");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:FAILED c:SKIPPED d:SUCCEEDED");
  (void)s.Wants();
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.Run(), RunState::kRunning);
  EXPECT_EQ(s.core().Find(s.Ref("a").run)->row.generation, 2);
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:SUBMITTING c:WAITING d:SUCCEEDED");
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
  EXPECT_EQ(s.Ref("b").attempt, 3u) << "numbers go on";
  EXPECT_EQ(Why(s.Retry()), "RUN_NOT_ENDED");
  s.Fail("b");
  EXPECT_EQ(s.State("b"), StepState::kBackoff) << "its budget begins anew";
  s.Pass(2 * kSecond);
  s.Succeed("b");
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_EQ(s.Attempt("b", 1).state, AttemptState::kFailed);
  EXPECT_EQ(s.Attempt("b", 4).state, AttemptState::kSucceeded);
  EXPECT_EQ(Why(s.Retry()), "RUN_SUCCEEDED");
}

TEST(RetryRunTest, WhatRetentionHasTakenIsMadeAgain) {
  Scene s;
  PipelineBuilder p;
  p.Step("raw").Out("x").Step("a").In("x", "raw.x").Out("x").Out("y").Step("b").In("x", "a.x").Step("d").After({"a"});
  s.Submit(p);
  s.Succeed("raw");
  s.Succeed("a");
  s.Succeed("d");
  s.Fail("b");
  s.Prune("raw");
  (void)s.Wants();
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.States(), "raw:SUCCEEDED a:SUCCEEDED b:SUBMITTING d:SUCCEEDED") << "nobody reads what is gone";
  s.Fail("b");
  s.Prune("a");
  (void)s.Wants();
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.States(), "raw:SUBMITTING a:WAITING b:WAITING d:WAITING") << "with all that depends on it";
  s.Succeed("raw");
  s.Succeed("a");
  s.Succeed("b");
  s.Succeed("d");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryRunTest, AFanInIsWholeThoughRetentionHasTakenAPart) {
  Scene s;
  PipelineBuilder p;
  p.Step("a")
      .Foreach("i", {"1", "2", "3"})
      .Out("x")
      .Step("b")
      .In("x", "a[*].x")
      .Step("c")
      .Foreach("i", {"1", "2", "3"});
  p.In("x", "a[item].x");
  s.Submit(p);
  for (const char* step : {"a[0]", "a[1]", "a[2]", "c[0]", "c[1]", "c[2]"}) s.Succeed(step);
  s.Fail("b");
  s.Prune("a[1]");
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.States(),
            "a[0]:SUCCEEDED a[1]:SUBMITTING a[2]:SUCCEEDED b:WAITING c[0]:SUCCEEDED c[1]:WAITING c[2]:SUCCEEDED");
  s.Succeed("a[1]");
  EXPECT_EQ(s.State("b"), StepState::kSubmitting);
}

TEST(RetryRunTest, TheValuesThatAConditionReadsAreMadeAgain) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("n", true).Step("b").After({"a"}).When(".a.n > 1");
  s.Submit(p);
  s.Succeed("a");
  s.Resolve("b", false);
  s.Fail("b");
  s.Prune("a");
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.States(), "a:SUBMITTING b:WAITING");
}

TEST(RetryRunTest, TheNextDaemonGoesOnWithIt) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x").Out("y").Attempts(2).Step("c").In("y", "b.y");
  s.Submit(p);
  s.Succeed("a");
  s.Fail("b");
  s.Pass(2 * kSecond);
  s.Fail("b");
  EXPECT_TRUE(s.Retry().ok());
  s.Restart();
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:SUBMITTING c:WAITING");
  s.Fail("b");
  s.Restart();
  EXPECT_EQ(s.State("b"), StepState::kBackoff) << "attempts of the first generation do not count";
  s.Pass(2 * kSecond);
  s.Fail("b");
  EXPECT_EQ(s.State("b"), StepState::kFailed);
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.core().Find(s.Ref("a").run)->row.generation, 3);
  s.Restart();
  s.Succeed("b");
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryRunTest, ChosenStepsTakeTheirDescendantsAlong) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x").Out("y").Step("c").In("y", "b.y").Step("other").Step("bad");
  s.Submit(p);
  for (const char* step : {"a", "b", "c", "other"}) s.Succeed(step);
  s.Fail("bad");
  EXPECT_TRUE(s.Retry({"b"}).ok());
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:SUBMITTING c:WAITING other:SUCCEEDED bad:FAILED");
  const auto& before = s.store().artifacts();
  const ArtifactId first = before[1].id;
  s.Restart();
  EXPECT_EQ(s.State("c"), StepState::kWaiting) << "what b made before does not count";
  (void)s.Wants();
  s.Succeed("b");
  s.Restart();
  EXPECT_EQ(s.State("c"), StepState::kSubmitting);
  EXPECT_NE(s.store().artifacts().back().id, first);
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kFailed) << "bad was not chosen";
}

TEST(RetryRunTest, InputsAreThoseOfThisGeneration) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x").Step("bad");
  s.Submit(p);
  s.Succeed("a");
  s.Succeed("b");
  s.Fail("bad");
  EXPECT_TRUE(s.Retry({"a"}).ok());
  (void)s.Wants();
  s.Succeed("a");
  const ArtifactId newest = s.store().artifacts().back().id;
  for (const Intent& intent : s.intents()) {
    if (intent.kind != Intent::Kind::kSubmitAttempt || intent.ref.ix != 1) continue;
    EXPECT_EQ(intent.inputs.at(0).at(0), newest);
  }
}

TEST(RetryRunTest, FanOutsByInstance) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Step("train").After({"gen"}).Foreach("m", {"1", "2", "3"}).Out("o");
  p.Step("eval").Foreach("m", {"1", "2", "3"}).In("o", "train[item].o");
  p.Step("best").After({"eval"});
  s.Submit(p);
  s.Succeed("gen");
  for (const char* step : {"train[0]", "train[1]", "train[2]", "eval[0]", "eval[2]"}) s.Succeed(step);
  s.Fail("eval[1]");
  EXPECT_EQ(s.State("best"), StepState::kSkipped);
  EXPECT_TRUE(s.Retry({"train[0]"}).ok());
  EXPECT_EQ(s.States(),
            "gen:SUCCEEDED train[0]:SUBMITTING train[1]:SUCCEEDED train[2]:SUCCEEDED eval[0]:WAITING eval[1]:FAILED "
            "eval[2]:SUCCEEDED best:WAITING");
  s.Succeed("train[0]");
  s.Succeed("eval[0]");
  EXPECT_EQ(s.ReasonOf("best"), Reason::kUpstreamFailed);
  EXPECT_TRUE(s.Retry().ok());
  s.Succeed("eval[1]");
  s.Succeed("best");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryRunTest, WhatWasMeantToBeSkippedStaysSo) {
  Scene s;
  PipelineBuilder p;
  p.Step("ok").Step("alarm").After({"ok"}).Rule(TriggerRule::kOneFailed).Step("asked").Step("bad");
  p.Step("clean").After({"bad"}).Rule(TriggerRule::kAllDone);
  s.Offer({}, 1);
  s.Submit(p);
  EXPECT_TRUE(s.Skip({"asked"}).ok());
  s.Succeed("ok");
  s.Fail("bad");
  s.Succeed("clean");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.States(), "ok:SUCCEEDED alarm:SKIPPED asked:SKIPPED bad:SUBMITTING clean:WAITING");
  s.Succeed("bad");
  s.Succeed("clean");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryRunTest, OfACancelledRunAndOfAHaltedOne) {
  Scene s;
  s.Submit(Dag("a->b c"));
  s.Start("a");
  s.Start("c");
  s.Cancel();
  s.EndStopped("a");
  s.EndStopped("c");
  EXPECT_EQ(s.Run(), RunState::kCancelled);
  EXPECT_TRUE(s.Retry().ok());
  for (const char* step : {"a", "b", "c"}) s.Succeed(step);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);

  s.Submit(Dag("a b->c"), {ExecutionMode::kFailFast});
  s.Start("b");
  s.Fail("a");
  s.EndStopped("b");
  EXPECT_EQ(s.States(), "a:FAILED b:CANCELLED c:SKIPPED");
  EXPECT_TRUE(s.Retry().ok());
  s.Start("b");
  s.Fail("a");
  EXPECT_EQ(s.Run(), RunState::kHalting) << "the mode holds in every generation";
  s.EndStopped("b");
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(RetryRunTest, ItsTimeBeginsAnew) {
  Scene s;
  s.Submit(Dag("a"), {.timeout = 10 * kSecond});
  s.Pass(4 * kSecond);
  s.Fail("a");
  EXPECT_TRUE(s.Retry().ok());
  s.Pass(8 * kSecond);  // past the first generation's
  EXPECT_EQ(s.Run(), RunState::kRunning);
  s.Pass(3 * kSecond);
  EXPECT_EQ(s.RunReason(), Reason::kRunDeadline);
}

TEST(RetryRunTest, MessagesOfTheGenerationBeforeAreLate) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Cache().Step("b");
  s.Submit(p);
  s.Cancel();
  const AttemptRef old = s.Ref("b");
  s.EndStopped("b");
  EXPECT_TRUE(s.Retry().ok());
  const int64_t late = s.core().late_events();
  StepResolved answer;  // asked by the first generation
  answer.run = old.run;
  answer.ix = 0;
  answer.generation = 1;
  answer.hit = true;
  answer.outputs = {Output(0)};
  EXPECT_TRUE(s.Apply(answer).ok());
  EXPECT_EQ(s.State("a"), StepState::kReady);
  AttemptEnd end;
  end.exit_code = 0;
  EXPECT_TRUE(s.Apply(AttemptEnded{old, end}).ok());
  EXPECT_EQ(s.State("b"), StepState::kSubmitting);
  EXPECT_EQ(s.core().late_events(), late + 2);
}

// What the first generation left to be told to its dependants must not be told to those of the second.
TEST(RetryRunTest, RightAfterTheEnd) {
  CorePolicy policy;
  policy.slice = 1;
  Scene s(policy);
  s.Offer({}, 1);
  std::vector<std::string> items;
  for (int i = 0; i < 30; ++i) items.push_back(std::to_string(i));
  PipelineBuilder p;
  p.Step("z").After({"c"}).Step("p").Out("x").Step("c").Foreach("i", items).In("x", "p.x", true);
  const RunKey run = s.Submit(p);
  s.Start("p");
  s.Publish("p");
  const Now now{s.now(), 1'700'000'000'000'000 + s.now()};
  AttemptEnd end;
  end.reason = Reason::kExitCode;
  EXPECT_TRUE(s.core().Apply(AttemptEnded{s.Ref("p"), end}, now).ok());  // who has not started is skipped
  EXPECT_TRUE(s.core().Apply(CancelRequested{run, {}, false}, now).ok());
  while (!IsTerminal(s.core().Find(run)->row.state)) s.core().Tick(now);
  EXPECT_EQ(s.core().NextDeadline(), 0) << "there is work left";
  Decisions decisions = s.core().Take();
  s.store().Commit(&decisions.batch);
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.State("z"), StepState::kWaiting);
  s.Succeed("p");
  for (int i = 0; i < 30; ++i) s.Succeed("c[" + std::to_string(i) + "]");
  s.Succeed("z");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(RetryRunTest, EarlyPublicationsOfBeforeDoNotCount) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x", true).Step("bad");
  s.Submit(p);
  s.Start("a");
  s.Publish("a");
  s.Succeed("b");
  s.End("a", Reason::kExitCode);
  s.Fail("bad");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.State("b"), StepState::kWaiting);
  s.Restart();
  EXPECT_EQ(s.State("b"), StepState::kWaiting);
  s.Start("a");
  s.Publish("a");
  EXPECT_EQ(s.State("b"), StepState::kSubmitting);
}

TEST(RetryRunTest, NothingToDoEndsAtOnce) {
  Scene s;
  s.Submit(Dag("a"), {.timeout = kSecond});
  s.Start("a");
  s.Cancel();
  s.End("a");  // it had ended before the stop reached it
  EXPECT_EQ(s.State("a"), StepState::kSucceeded);
  EXPECT_EQ(s.Run(), RunState::kCancelled);
  EXPECT_TRUE(s.Retry().ok());
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

// --- delete ---

TEST(DeleteRunTest, OnlyWhatHasEnded) {
  Scene s;
  s.Submit(Dag("a"));
  EXPECT_EQ(Why(s.Delete()), "RUN_NOT_ENDED");
  s.Fail("a");
  EXPECT_TRUE(s.Delete().ok());
  EXPECT_EQ(s.store().events().back().type, EventType::kRunDeleted);
  EXPECT_EQ(s.store().events().back().message, "run-1");
  EXPECT_EQ(s.store().events().back().output, "run-1");
}

// --- attempts of a step ---

// Ends the current attempt as its platform says.
void EndAs(Scene& s, const std::string& step, Reason reason, std::optional<int> exit_code, bool never_started) {
  AttemptEnd end;
  end.reason = reason;
  end.exit_code = exit_code;
  end.never_started = never_started;
  EXPECT_TRUE(s.Apply(AttemptEnded{s.Ref(step), end}).ok());
}

TEST(RetryFilterTest, EachWordIsForItself) {
  struct Case {
    const char* word;
    Reason reason;
    std::optional<int> exit_code;
  };
  const std::vector<Case> cases = {{"failed", Reason::kExitCode, 1},
                                   {"failed", Reason::kOutputMissing, 0},
                                   {"lost", Reason::kLost, std::nullopt},
                                   {"oom", Reason::kOutOfMemory, 137}};
  for (const std::string allowed : {"failed", "timeout", "lost", "oom"}) {
    for (const Case& c : cases) {
      Scene s;
      PipelineBuilder p;
      RetryPolicy& policy = p.Step("a").Attempts(2).options().retry;
      policy.on_failed = allowed == "failed";
      policy.on_timeout = allowed == "timeout";
      policy.on_lost = allowed == "lost";
      policy.on_oom = allowed == "oom";
      s.Submit(p);
      s.Start("a");
      EndAs(s, "a", c.reason, c.exit_code, false);
      EXPECT_EQ(s.State("a"), allowed == c.word ? StepState::kBackoff : StepState::kFailed) << allowed << " " << c.word;
    }
    Scene s;
    PipelineBuilder p;
    RetryPolicy& policy = p.Step("a").Attempts(2).Run(kSecond).options().retry;
    policy.on_failed = allowed == "failed";
    policy.on_timeout = allowed == "timeout";
    policy.on_lost = allowed == "lost";
    policy.on_oom = allowed == "oom";
    s.Submit(p);
    s.Start("a");
    s.Pass(2 * kSecond);
    s.EndStopped("a");
    EXPECT_EQ(s.State("a"), allowed == "timeout" ? StepState::kBackoff : StepState::kFailed) << allowed;
  }
}

TEST(RetryFilterTest, OnlyTheseExitCodes) {
  for (const int code : {1, 75}) {
    Scene s;
    PipelineBuilder p;
    p.Step("a").Attempts(2).options().retry.exit_codes = {75, 111};
    s.Submit(p);
    s.Start("a");
    EndAs(s, "a", Reason::kExitCode, code, false);
    EXPECT_EQ(s.State("a"), code == 75 ? StepState::kBackoff : StepState::kFailed) << code;
  }
}

TEST(BudgetTest, WhatNeverBeganCountsApartAlsoOverARestart) {
  Scene s;
  PipelineBuilder p;
  RetryPolicy& policy = p.Step("a").Attempts(2).options().retry;
  policy.platform_attempts = 3;
  s.Submit(p);
  for (int n = 1; n <= 2; ++n) {
    EndAs(s, "a", Reason::kUnschedulable, std::nullopt, true);
    EXPECT_EQ(s.State("a"), StepState::kBackoff) << n;
    s.Restart();
    s.Pass(60 * kSecond);
  }
  s.Start("a");
  EndAs(s, "a", Reason::kExitCode, 1, false);
  EXPECT_EQ(s.State("a"), StepState::kBackoff) << "the first that counts against max_attempts";
  s.Restart();
  s.Pass(60 * kSecond);
  EndAs(s, "a", Reason::kImagePullFailed, std::nullopt, true);
  EXPECT_EQ(s.State("a"), StepState::kFailed) << "the third that never began";
  EXPECT_EQ(s.Row("a").attempt, 4u);
}

TEST(BackOffTest, ItGrowsIsSpreadAndIsTheSameAfterARestart) {
  const auto waits = [](bool restart) {
    Scene s;
    PipelineBuilder p;
    RetryPolicy& policy = p.Step("a").Attempts(6, kSecond).options().retry;
    policy.jitter = 0.3;
    policy.max_micros = 5 * kSecond;
    s.Submit(p);
    std::vector<int64_t> out;
    for (int n = 0; n < 5; ++n) {
      s.Start("a");
      s.End("a", Reason::kExitCode);
      const int64_t begin = s.now();
      if (restart) {
        s.Pass(kSecond / 10);
        s.Restart();
      }
      while (s.State("a") == StepState::kBackoff) s.Pass(kSecond / 1000);
      out.push_back((s.now() - begin) / (kSecond / 1000));
    }
    return out;
  };
  const std::vector<int64_t> plain = waits(false);
  EXPECT_EQ(plain, waits(true));
  for (size_t n = 0; n < plain.size(); ++n) {
    const double full = std::min(5'000.0, 1'000.0 * static_cast<double>(1 << n));
    EXPECT_GE(static_cast<double>(plain[n]), 0.7 * full) << n;
    EXPECT_LE(static_cast<double>(plain[n]), std::min(5'001.0, 1.3 * full + 1)) << n;
  }
}

TEST(TimeoutTest, QueueAndRunTimesGoOnOverARestart) {
  Scene s;
  PipelineBuilder p;
  p.Step("q").Queue(10 * kSecond).Step("r").Run(10 * kSecond);
  s.Submit(p, {.timeout = 30 * kSecond});
  s.Accept("q");
  s.Start("r");
  s.Pass(6 * kSecond);
  s.Restart();
  s.JumpWall(3600 * kSecond);  // nobody goes by it
  s.Pass(3 * kSecond);
  EXPECT_EQ(s.State("q"), StepState::kQueued);
  EXPECT_EQ(s.State("r"), StepState::kRunning);
  s.Pass(2 * kSecond);
  EXPECT_EQ(s.ReasonOf("q"), Reason::kQueueTimeout);
  EXPECT_EQ(s.ReasonOf("r"), Reason::kRunTimeout);
  s.Pass(18 * kSecond);
  EXPECT_EQ(s.Run(), RunState::kRunning);
  s.Restart();
  s.Pass(2 * kSecond);
  EXPECT_EQ(s.RunReason(), Reason::kRunDeadline);
}

// --- heartbeat ---

TEST(HeartbeatTest, SilenceEndsTheAttempt) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Attempts(2).options().heartbeat_micros = 10 * kSecond;
  s.Submit(p);
  s.Pass(60 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kSubmitting) << "it counts from its start";
  s.Start("a");
  for (int i = 0; i < 5; ++i) {
    s.Pass(9 * kSecond);
    s.Beat("a");
  }
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  s.Pass(9 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  (void)s.Wants();
  s.Pass(2 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kStopping);
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
  s.EndStopped("a");
  EXPECT_EQ(s.Attempt("a", 1).state, AttemptState::kTimedOut);
  EXPECT_EQ(s.Attempt("a", 1).reason, Reason::kHeartbeatTimeout);
  EXPECT_EQ(s.State("a"), StepState::kBackoff) << "a time-out may be tried again";
  s.Pass(2 * kSecond);
  s.Start("a");
  s.Pass(11 * kSecond);
  s.EndStopped("a");
  EXPECT_EQ(s.ReasonOf("a"), Reason::kHeartbeatTimeout);
  EXPECT_EQ(s.State("a"), StepState::kFailed);
}

TEST(HeartbeatTest, ARestartIsASignOfLife) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").options().heartbeat_micros = 10 * kSecond;
  s.Submit(p);
  s.Start("a");
  s.Pass(9 * kSecond);
  s.Restart();
  s.Pass(9 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  s.Pass(2 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kStopping);
}

TEST(HeartbeatTest, NotWhileItsOutputsAreStoredAndNotOfOthers) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").options().heartbeat_micros = 10 * kSecond;
  p.Step("b");
  s.Submit(p);
  s.Start("a");
  s.Start("b");
  s.End("a");
  s.Pass(60 * kSecond);
  EXPECT_EQ(s.State("a"), StepState::kRunning);
  EXPECT_EQ(s.State("b"), StepState::kRunning) << "it did not opt in";
  s.Store("a");
  s.Beat("a");  // late: nobody minds
  EXPECT_EQ(s.State("a"), StepState::kSucceeded);
}

}  // namespace
}  // namespace orch::testing
