// What an orchestrator is given: its circuit breaker, its rate, and what `why` says of both.
#include "server/core/admission.h"

#include "gmock/gmock.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kMilli = 1'000;

CorePolicy Three() {
  CorePolicy policy;
  policy.breaker.failures = 3;
  return policy;
}

OrchestratorHealth Health(Scene& s) { return *s.core().HealthOf("o"); }

// Steps a, b, c, d, each refused once.
void Break(Scene& s) {
  s.Submit(Dag("a b c"));
  EXPECT_THAT(s.Wants(), ElementsAre("submit a", "submit b", "submit c"));
  s.Refuse("a", true);
  s.Refuse("b", true);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
  s.Refuse("c", true);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kOpen);
}

TEST(BreakerTest, NothingIsSubmittedAfterSoManyRefusalsInARow) {
  Scene s(Three());
  Break(s);
  const RunKey first = 1;
  s.Submit(Dag("z"));
  EXPECT_THAT(s.Wants(), IsEmpty()) << "a new step, and three that were refused";
  s.Pass(999 * kMilli);
  EXPECT_THAT(s.Wants(), IsEmpty()) << "their own time has come, and that of the orchestrator has not";
  EXPECT_EQ(Health(s).held, 3);
  s.Pass(kMilli);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  EXPECT_EQ(Health(s).breaker, Breaker::State::kProbing);
  s.Use(first);
  EXPECT_EQ(s.State("a"), StepState::kSubmitting);
}

TEST(BreakerTest, OneIsTriedAndDecides) {
  Scene s(Three());
  Break(s);
  s.Submit(Dag("z"));
  s.Pass(kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  s.Use(1);
  EXPECT_THAT(s.Wants(), ElementsAre("submit a")) << "one of those that hold slots, and one alone";
  s.Pass(10 * kSecond);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Refuse("a", true);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kOpen);
  s.Pass(2 * kSecond - 1);
  EXPECT_THAT(s.Wants(), IsEmpty()) << "the wait has doubled";
  s.Pass(1);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", false, "still down"}).ok());
  EXPECT_EQ(Health(s).last_error, "still down");
  s.Pass(4 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  s.Start("a");
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
  const std::vector<std::string> wants = s.Wants();
  EXPECT_EQ(wants.size(), 3u) << "b and c, which were held, and z";
  EXPECT_EQ(Health(s).failures, 0);
}

TEST(BreakerTest, TheWaitIsAtMostAMinute) {
  Scene s(Three());
  Break(s);
  int64_t wait = kSecond;
  for (int i = 0; i < 10; ++i) {
    s.Pass(wait - 1);
    EXPECT_THAT(s.Wants(), IsEmpty()) << i;
    s.Pass(1);
    EXPECT_THAT(s.Wants(), ElementsAre("probe o")) << i;
    EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", false, "no"}).ok());
    wait = std::min(2 * wait, 60 * kSecond);
  }
}

TEST(BreakerTest, ASuccessInBetweenBeginsTheCountAnew) {
  Scene s(Three());
  s.Submit(Dag("a b c d"));
  (void)s.Wants();
  s.Refuse("a", true);
  s.Refuse("b", true);
  s.Accept("c");
  s.Refuse("d", true);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
  EXPECT_EQ(Health(s).failures, 1);
}

TEST(BreakerTest, WhatTheDaemonItselfCannotDoNowIsNoFaultOfThePlatform) {
  Scene s(Three());
  s.Submit(Dag("a b"));
  EXPECT_THAT(s.Wants(), ElementsAre("submit a", "submit b"));
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(s.Apply(AttemptRefused{s.Ref("a"), true, Reason::kSubmitRefused, "the disk is full", true}).ok());
    EXPECT_EQ(s.State("a"), StepState::kSubmitting);
    EXPECT_EQ(Health(s).failures, 0);
    s.Pass(60 * kSecond);
    EXPECT_THAT(s.Wants(), ElementsAre("submit a")) << "the same attempt";
  }
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
  EXPECT_EQ(s.Ref("a").attempt, 1u);
}

// A trial that never reached the platform decides nothing, and another one may go.
TEST(BreakerTest, ATrialThatTheDaemonItselfCannotMakeIsNone) {
  Scene s(Three());
  Break(s);
  s.Pass(kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  EXPECT_TRUE(s.Apply(AttemptRefused{s.Ref("a"), true, Reason::kSubmitRefused, "the disk is full", true}).ok());
  EXPECT_EQ(Health(s).breaker, Breaker::State::kTrying);
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
}

TEST(BreakerTest, RefusalsForGoodAreTheStepsFault) {
  Scene s(Three());
  s.Submit(Dag("a b c d"));
  (void)s.Wants();
  for (const char* step : {"a", "b", "c", "d"}) s.Refuse(step, false);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
}

TEST(BreakerTest, ATrialThatIsCancelledLetsAnotherGo) {
  Scene s(Three());
  Break(s);
  s.Pass(kSecond);
  (void)s.Wants();
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  s.Cancel(false, {"a"});
  EXPECT_THAT(s.Wants(), ElementsAre("cancel a"));
  s.EndStopped("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "submit b"));
  EXPECT_EQ(Health(s).breaker, Breaker::State::kTrying);
}

TEST(BreakerTest, ATrialWhoseAnswerIsLostIsTriedAgain) {
  Scene s(Three());
  Break(s);
  s.Pass(kSecond);
  (void)s.Wants();
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("a")}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
}

TEST(BreakerTest, HeldOnesCanBeCancelled) {
  Scene s(Three());
  Break(s);
  s.Pass(kSecond);
  (void)s.Wants();
  s.Cancel();
  EXPECT_EQ(s.Run(), RunState::kCancelled);
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "release b", "release c"));
  EXPECT_EQ(Health(s).held, 0);
}

TEST(BreakerTest, ASilentProbeIsABadOne) {
  Scene s(Three());
  Break(s);
  s.Pass(kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
  s.Pass(60 * kSecond);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kOpen);
  EXPECT_THAT(Health(s).last_error, HasSubstr("did not say"));
  s.Pass(2 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("probe o"));
}

TEST(BreakerTest, SomebodyWhoAsksAndFindsItWellNeedNotWait) {
  Scene s(Three());
  Break(s);
  EXPECT_TRUE(s.Apply(OrchestratorProbed{"o", true, ""}).ok());
  EXPECT_EQ(Health(s).breaker, Breaker::State::kTrying);
  s.Pass(500 * kMilli);
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
}

TEST(BreakerTest, ARestartTakesItForWell) {
  Scene s(Three());
  Break(s);
  s.Restart();
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
  (void)s.Wants();
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("a")}).ok());
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
}

TEST(BreakerTest, CanBeTurnedOff) {
  CorePolicy policy;
  policy.breaker.failures = 0;
  Scene s(policy);
  s.Submit(Dag("a"));
  for (int i = 0; i < 20; ++i) s.Refuse("a", true);
  EXPECT_EQ(Health(s).breaker, Breaker::State::kClosed);
}

TEST(BreakerTest, WhySaysSinceWhenAndTheLastWords) {
  Scene s(Three());
  Break(s);
  s.Submit(Dag("z"));
  const auto ready = s.core().Explain(2, 0);
  ASSERT_TRUE(ready.has_value());
  EXPECT_THAT(ready->summary, HasSubstr("orchestrator `o` is unhealthy since"));
  EXPECT_THAT(ready->summary, HasSubstr("refused 3 submissions in a row, at last with: no; it is asked how it is at"));
  EXPECT_GT(ready->causes.at(0).until, 0);
  const auto held = s.core().Explain(1, 0);
  EXPECT_THAT(held->summary, HasSubstr("is unhealthy since"));
}

TEST(RateTest, AsManyAsASecondHasAtOnceAndThenEvenly) {
  Scene s;
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o", true, {}, 0, 2000}).ok());
  s.Submit(Dag("a b c d e"));
  EXPECT_EQ(s.Wants().size(), 2u);
  s.Pass(499 * kMilli);
  EXPECT_THAT(s.Wants(), IsEmpty());
  const auto why = s.core().Explain(1, 4);
  EXPECT_THAT(why->summary, HasSubstr("takes at most 2 submissions a second"));
  EXPECT_GT(why->causes.at(0).until, 0);
  s.Pass(kMilli);
  EXPECT_EQ(s.Wants().size(), 1u);
  s.Pass(500 * kMilli);
  EXPECT_EQ(s.Wants().size(), 1u);
  s.Pass(10 * kSecond);
  EXPECT_EQ(s.Wants().size(), 1u);
}

TEST(RateTest, LessThanOneASecond) {
  Scene s;
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o", true, {}, 0, 100}).ok());
  s.Submit(Dag("a b"));
  EXPECT_EQ(s.Wants().size(), 1u);
  s.Pass(10 * kSecond - 1);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Pass(1);
  EXPECT_EQ(s.Wants().size(), 1u);
}

TEST(RateTest, SubmissionsAgainCountToo) {
  Scene s;
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o", true, {}, 0, 1000}).ok());
  s.Submit(Dag("a"));
  (void)s.Wants();
  s.Refuse("a", true);  // would be submitted again after half a second
  s.Pass(999 * kMilli);
  EXPECT_THAT(s.Wants(), IsEmpty());
  s.Pass(kMilli);
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
}

TEST(RateTest, ALiftedLimitLetsAllGo) {
  Scene s;
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o", true, {}, 0, 1000}).ok());
  s.Submit(Dag("a b c"));
  EXPECT_EQ(s.Wants().size(), 1u);
  EXPECT_TRUE(s.Apply(OrchestratorChanged{"o", true, {}, 0, 0}).ok());
  EXPECT_EQ(s.Wants().size(), 2u);
}

TEST(RateTest, ManyInALongTimeAreAsManyAsItSays) {
  Rate rate;
  rate.Set(3'300);
  int64_t taken = 0;
  for (int64_t t = 1; t <= 100 * kSecond; t += 7 * kMilli) {
    for (int64_t n = rate.Available(t, 1000); n > 0; --n) {
      rate.Take(t);
      ++taken;
    }
    EXPECT_GE(rate.NextAt(), 0);
  }
  EXPECT_GE(taken, 330);
  EXPECT_LE(taken, 334);  // and what a second has at once
}

}  // namespace
}  // namespace orch::testing
