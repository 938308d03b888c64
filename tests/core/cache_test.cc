// What the cache decides: hits and their conditions, single flight, and what `why` says of it.
#include <gmock/gmock.h>

#include "server/core/cache_changes.h"
#include "server/core/single_flight.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PipelineBuilder Two() {
  PipelineBuilder p;
  p.Step("a").Out("x").Cache();
  p.Step("b").Out("x").Cache();
  return p;
}

std::string Why(Scene& s, RunKey run, StepIx ix) {
  const auto explained = s.core().Explain(run, ix);
  return explained.has_value() ? explained->summary : "";
}

TEST(SingleFlightTest, TwoEqualStepsComputeOnce) {
  Scene s;
  const RunKey run = s.Submit(Two());
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a", "resolve b"));
  s.Resolve("a", false, Reason::kNone, "k");
  s.Resolve("b", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  EXPECT_EQ(s.State("b"), StepState::kReady);
  EXPECT_EQ(s.ReasonOf("b"), Reason::kWaitingForLeader);
  EXPECT_THAT(Why(s, run, 1), HasSubstr("step `a` of run `run-1` computes the same"));
  s.Pass(kSecond);  // long enough to be on record
  EXPECT_EQ(s.Row("b").reason, Reason::kWaitingForLeader);
  s.Succeed("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "resolve b", "store a"));
  ASSERT_EQ(s.store().cache().size(), 1u);
  EXPECT_EQ(s.store().cache()[0].step, "a");
  EXPECT_EQ(s.store().cache()[0].run_name, "run-1");
  s.Resolve("b", true, Reason::kNone, "k");
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:CACHED");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(SingleFlightTest, BothStandInLineAndOneStarts) {
  Scene s;
  s.Offer({{"cpu", 0}});
  s.Submit(Two());
  (void)s.Wants();
  s.Resolve("a", false, Reason::kNone, "k");
  s.Resolve("b", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_EQ(s.ReasonOf("b"), Reason::kNone);  // nobody leads: both wait for slots
  s.Offer({{"cpu", 4000}});
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
  EXPECT_EQ(s.ReasonOf("b"), Reason::kWaitingForLeader);
  EXPECT_EQ(s.core().PoolUse()["o/cpu"], 1000);  // who waits for a leader holds nothing
}

TEST(SingleFlightTest, AcrossRuns) {
  Scene s;
  PipelineBuilder one;
  one.Step("a").Out("x").Cache();
  const RunKey first = s.Submit(one);
  (void)s.Wants();
  s.Resolve("a", false, Reason::kNone, "k");
  PipelineBuilder two;
  two.Step("a").Out("x").Cache();
  const RunKey second = s.Submit(two);
  (void)s.Wants();
  s.Resolve("a", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_THAT(Why(s, second, 0), HasSubstr("of run `run-1`"));
  s.Use(first);
  s.Succeed("a");
  s.Use(second);
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "resolve a", "store a"));
  s.Resolve("a", true, Reason::kNone, "k");
  EXPECT_EQ(s.State("a"), StepState::kCached);
}

TEST(SingleFlightTest, WhenTheLeaderFailsTheNextComputes) {
  Scene s;
  PipelineBuilder p = Two();
  p.Step("c").Out("x").Cache();
  s.Submit(p);
  (void)s.Wants();
  for (const char* step : {"a", "b", "c"}) s.Resolve(step, false, Reason::kNone, "k");
  s.Fail("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "resolve b", "submit a"));  // c goes on waiting
  s.Resolve("b", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
  EXPECT_EQ(s.ReasonOf("c"), Reason::kWaitingForLeader);
  s.Succeed("b");
  EXPECT_THAT(s.Wants(), ElementsAre("release b", "resolve c", "store b"));
  s.Resolve("c", true, Reason::kNone, "k");
  EXPECT_EQ(s.States(), "a:FAILED b:SUCCEEDED c:CACHED");
}

TEST(SingleFlightTest, OutputsThatDoNotEnterTheCacheAreNobodyElses) {
  Scene s;
  s.Submit(Two());
  s.Resolve("a", false, Reason::kNone, "k");
  s.Resolve("b", false, Reason::kNone, "k");
  (void)s.Wants();
  s.Start("a");
  s.End("a");
  OutputsStored stored{s.Ref("a"), {Output(0)}, Reason::kNone, "", /*source_changed=*/true};
  EXPECT_TRUE(s.Apply(std::move(stored)).ok());
  EXPECT_TRUE(s.store().cache().empty());
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "resolve b", "store a"));
  s.Resolve("b", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), ElementsAre("submit b"));
}

TEST(SingleFlightTest, ACancelledWaiterOrAskerHoldsNobodyUp) {
  Scene s;
  PipelineBuilder p = Two();
  p.Step("c").Out("x").Cache();
  s.Submit(p);
  for (const char* step : {"a", "b", "c"}) s.Resolve(step, false, Reason::kNone, "k");
  (void)s.Wants();
  s.Fail("a");  // b is asked about again, c waits for it
  (void)s.Wants();
  s.Cancel(false, {"b"});
  EXPECT_THAT(s.Wants(), ElementsAre("resolve c"));
  s.Resolve("c", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), ElementsAre("submit c"));
}

TEST(SingleFlightTest, SurvivesARestart) {
  Scene s;
  s.Submit(Two());
  s.Resolve("a", false, Reason::kNone, "k");
  s.Resolve("b", false, Reason::kNone, "k");
  s.Pass(kSecond);
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("resolve b"));
  s.Resolve("b", false, Reason::kNone, "k");
  EXPECT_THAT(s.Wants(), IsEmpty());  // the attempt of a lives, and leads
  EXPECT_EQ(s.ReasonOf("b"), Reason::kWaitingForLeader);
  s.Succeed("a");
  s.Resolve("b", true, Reason::kNone, "k");
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:CACHED");
}

TEST(SingleFlightTest, ManyWaitersInSlices) {
  CorePolicy policy;
  policy.slice = 7;
  Scene s(policy);
  PipelineBuilder p;
  std::vector<std::string> items;
  for (int i = 0; i < 100; ++i) items.push_back(std::to_string(i));
  p.Step("s").Foreach("i", items).Out("x").Cache();
  s.Submit(p);
  for (const std::string& i : items) s.Resolve("s[" + i + "]", false, Reason::kNone, "k");
  EXPECT_EQ(s.core().live_attempts(), 1);
  (void)s.Wants();
  s.Succeed("s[0]");
  EXPECT_EQ(s.Wants().size(), 101u);  // 99 look again; store and release
  for (int i = 1; i < 100; ++i) s.Resolve("s[" + std::to_string(i) + "]", true, Reason::kNone, "k");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(CacheConditionTest, ARetryAsksTheCacheAgain) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Cache().Attempts(2);
  s.Submit(p);
  s.Resolve("a", false, Reason::kNone, "k");
  (void)s.Wants();
  s.Fail("a");
  EXPECT_EQ(s.State("a"), StepState::kBackoff);
  (void)s.Wants();
  s.Pass(2 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a"));
  s.Resolve("a", true, Reason::kNone, "k");
  EXPECT_EQ(s.State("a"), StepState::kCached);
}

TEST(CacheConditionTest, AHitWhoseEntryWasTakenOutIsAskedForAgain) {
  Scene s;
  s.Submit(Two());
  (void)s.Wants();
  const uint64_t before = s.core().cache_version();
  EXPECT_TRUE(s.Apply(CacheEntriesRemoved{"default", {"k"}}).ok());
  StepResolved hit;
  hit.run = 1;
  hit.ix = 0;
  hit.cache_key = "k";
  hit.as_of = before;
  hit.hit = true;
  hit.outputs = {Output(0)};
  EXPECT_TRUE(s.Apply(hit).ok());
  EXPECT_EQ(s.State("a"), StepState::kReady);
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a"));
  hit.as_of = s.core().cache_version();
  EXPECT_TRUE(s.Apply(hit).ok());
  EXPECT_EQ(s.State("a"), StepState::kCached);
}

// a -> b -> c by data, all found at submission.
RunSubmitted Found(uint64_t as_of) {
  PipelineBuilder p;
  p.Step("a").Out("x").Cache();
  p.Step("b").In("i", "a.x").Out("x").Cache();
  p.Step("c").In("i", "b.x").Out("x").Cache();
  RunSubmitted event;
  event.graph = p.Graph();
  event.found.as_of = as_of;
  event.found.runs = {"earlier"};
  for (StepIx ix = 0; ix < 3; ++ix) {
    FoundHit hit;
    hit.ix = ix;
    hit.key = std::string(1, static_cast<char>('a' + ix));
    hit.first_output = ix;
    hit.outputs = 1;
    event.found.hits.push_back(hit);
    event.found.outputs.push_back(Output(0));
  }
  return event;
}

TEST(FoundHitsTest, AreTakenOneAfterTheOtherWithoutAQuestion) {
  Scene s;
  s.Submit(Found(0));
  EXPECT_EQ(s.States(), "a:CACHED b:CACHED c:CACHED");
  EXPECT_THAT(s.Wants(), IsEmpty());
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
  EXPECT_EQ(s.Row("c").cached_from, "earlier");
}

TEST(FoundHitsTest, AChangedEntryAndAllThatFollowsFromItAreAskedFor) {
  Scene s;
  EXPECT_TRUE(s.Apply(CacheEntriesRemoved{"default", {"b"}}).ok());
  s.Submit(Found(0));
  EXPECT_EQ(s.States(), "a:CACHED b:READY c:WAITING");
  EXPECT_THAT(s.Wants(), ElementsAre("resolve b"));
  s.Resolve("b", false, Reason::kNone, "kb");
  s.Succeed("b");
  EXPECT_THAT(s.Wants(), ElementsAre("release b", "resolve c", "store b", "submit b"));
}

TEST(FoundHitsTest, AHitWhoseProducerWasComputedIsNotTaken) {
  Scene s;
  RunSubmitted event = Found(0);
  event.found.hits.erase(event.found.hits.begin());  // a is computed
  s.Submit(std::move(event));
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a"));
  s.Resolve("a", false, Reason::kNone, "ka");
  s.Succeed("a");
  EXPECT_THAT(s.Wants(), ElementsAre("release a", "resolve b", "store a", "submit a"));
}

TEST(CacheChangesTest, WhatIsForgottenCountsAsChanged) {
  CacheChanges changes(2);
  EXPECT_TRUE(changes.Unchanged("a", 0));
  changes.Note("a");
  EXPECT_FALSE(changes.Unchanged("a", 0));
  EXPECT_TRUE(changes.Unchanged("a", 1));
  EXPECT_TRUE(changes.Unchanged("b", 0));
  changes.Note("b");
  changes.Note("c");  // "a" is forgotten
  EXPECT_FALSE(changes.Unchanged("z", 0));
  EXPECT_TRUE(changes.Unchanged("z", 1));
  EXPECT_FALSE(changes.Unchanged("c", 2));
}

}  // namespace
}  // namespace orch::testing
