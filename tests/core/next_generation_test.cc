// Runs that go on with another pipeline, or over other lists.
#include "server/core/next_generation.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/core/numbering.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Names(const Graph& graph) {
  std::vector<std::string> names;
  for (StepIx ix = 0; ix < graph.step_count(); ++ix) names.push_back(graph.StepName(ix));
  return names;
}

const Graph& GraphOf(Scene& s, RunKey run) { return *s.store().Find(run)->graph; }

TEST(OtherPipelineTest, StepsComeGoAndChangePlaces) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("old").In("x", "a.x").Step("c").After({"old"}).Step("side");
  const RunKey run = s.Submit(p);
  s.Succeed("a");
  s.Succeed("side");
  s.Fail("old");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  (void)s.Wants();
  PipelineBuilder q;
  q.Step("c").After({"fresh"}).Step("fresh").In("x", "a.x").Step("a").Out("x").Step("side");
  EXPECT_TRUE(s.RetryWith(q).ok());
  EXPECT_THAT(Names(GraphOf(s, run)), ElementsAre("a", "old", "c", "side", "fresh")) << "numbers stay";
  EXPECT_EQ(s.States(), "a:SUCCEEDED old:SKIPPED c:WAITING side:SUCCEEDED fresh:SUBMITTING");
  EXPECT_EQ(s.ReasonOf("old"), Reason::kStepRemoved);
  EXPECT_THAT(s.Wants(), ElementsAre("submit fresh"));
  s.Restart();
  EXPECT_EQ(s.States(), "a:SUCCEEDED old:SKIPPED c:WAITING side:SUCCEEDED fresh:SUBMITTING");
  s.Succeed("fresh");
  s.Restart();
  s.Succeed("c");
  EXPECT_EQ(s.Run(), RunState::kSucceeded) << "what is gone does no harm";
  EXPECT_THAT(s.store().faults(), IsEmpty());
}

TEST(OtherPipelineTest, AStepThatCameBackBeginsAgain) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("x").Step("b").In("x", "a.x").Step("bad");
  s.Submit(p);
  s.Succeed("a");
  s.Succeed("b");
  s.Fail("bad");
  PipelineBuilder without;
  without.Step("a").Out("x").Step("bad");
  EXPECT_TRUE(s.RetryWith(without).ok());
  EXPECT_EQ(s.State("b"), StepState::kSucceeded) << "what it made stays";
  s.Fail("bad");
  EXPECT_TRUE(s.RetryWith(p).ok());
  EXPECT_EQ(s.States(), "a:SUCCEEDED b:SUBMITTING bad:SUBMITTING");
  EXPECT_EQ(s.Ref("b").attempt, 2u) << "its attempts go on";
  s.Succeed("b");
  s.Succeed("bad");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(OtherPipelineTest, AFanOutGrowsAndShrinksByItem) {
  Scene s;
  PipelineBuilder p;
  p.Step("each").Foreach("k", {"1", "2", "3"}).Out("x").Step("all").In("xs", "each[*].x").Step("bad");
  const RunKey run = s.Submit(p);
  for (const char* step : {"each[0]", "each[1]", "each[2]", "all"}) s.Succeed(step);
  s.Fail("bad");
  PipelineBuilder more;
  more.Step("each").Foreach("k", {"1", "9", "3", "4", "5"}).Out("x").Step("all").In("xs", "each[*].x").Step("bad");
  EXPECT_TRUE(s.RetryWith(more).ok());
  EXPECT_THAT(Names(GraphOf(s, run)), ElementsAre("each[0]", "each[1]", "each[2]", "all", "bad", "each[3]", "each[4]"));
  EXPECT_EQ(s.States(),
            "each[0]:SUCCEEDED each[1]:SUBMITTING each[2]:SUCCEEDED all:WAITING bad:SUBMITTING each[3]:SUBMITTING "
            "each[4]:SUBMITTING")
      << "the one with another item runs again";
  s.Restart();
  for (const char* step : {"each[4]", "each[1]", "each[3]"}) s.Succeed(step);
  (void)s.Wants();
  for (const Intent& intent : s.intents()) {
    if (intent.ref.ix != 3 || intent.kind != Intent::Kind::kSubmitAttempt) continue;
    EXPECT_EQ(intent.inputs.at(0).size(), 5u);
  }
  s.Fail("bad");
  s.Succeed("all");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  PipelineBuilder fewer;
  fewer.Step("each").Foreach("k", {"1", "9"}).Out("x").Step("all").In("xs", "each[*].x").Step("bad");
  EXPECT_TRUE(s.RetryWith(fewer).ok());
  EXPECT_EQ(s.States(),
            "each[0]:SUCCEEDED each[1]:SUCCEEDED each[2]:SUCCEEDED all:SUBMITTING bad:SUBMITTING each[3]:SUCCEEDED "
            "each[4]:SUCCEEDED")
      << "who reads all of them reads fewer";
  EXPECT_FALSE(GraphOf(s, run).Has(*GraphOf(s, run).FindStep("each[2]")));
  s.Succeed("all");
  s.Succeed("bad");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(OtherPipelineTest, AStepThatIsOfAnotherKindIsAnotherStep) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Step("bad");
  const RunKey run = s.Submit(p);
  s.Succeed("a");
  s.Fail("bad");
  PipelineBuilder q;
  q.Step("a").Foreach("k", {"1", "2"}).Step("bad");
  EXPECT_TRUE(s.RetryWith(q).ok());
  EXPECT_THAT(Names(GraphOf(s, run)), ElementsAre("a", "bad", "a[0]", "a[1]"));
  s.Restart();
  for (const char* step : {"a[0]", "a[1]", "bad"}) s.Succeed(step);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(OtherPipelineTest, AFanOutMadeAtRunTimeKeepsItsInstances) {
  Scene s;
  const auto pipeline = [](bool extra) {
    PipelineBuilder p;
    if (extra) p.Step("zero");
    p.Step("list").Out("xs", true).Step("each").ForeachFrom("k", "list.xs").Out("y");
    p.Step("all").In("ys", "each[*].y").Step("bad");
    return p;
  };
  const RunKey run = s.Submit(pipeline(false));
  s.Succeed("list");
  s.FanOut("each", {{"1", "2"}});
  s.Succeed("each[0]");
  s.Fail("each[1]");
  s.Fail("bad");
  EXPECT_EQ(s.Run(), RunState::kFailed);
  EXPECT_TRUE(s.RetryWith(pipeline(true)).ok());
  EXPECT_THAT(Names(GraphOf(s, run)), ElementsAre("list", "each", "all", "bad", "each[0]", "each[1]", "zero"));
  EXPECT_EQ(s.State("each"), StepState::kSucceeded);
  EXPECT_EQ(s.State("each[0]"), StepState::kSucceeded);
  EXPECT_EQ(s.State("each[1]"), StepState::kSubmitting);
  s.Restart();
  EXPECT_EQ(s.State("each[1]"), StepState::kSubmitting);
  for (const char* step : {"each[1]", "bad", "zero", "all"}) s.Succeed(step);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(OtherListTest, TheFanOutIsMadeAgain) {
  for (const bool restart : {false, true}) {
    Scene s;
    PipelineBuilder p;
    p.Step("list").Out("xs", true).Step("each").ForeachFrom("k", "list.xs").Out("y");
    p.Step("all").In("ys", "each[*].y").Step("after").After({"each"}).Rule(TriggerRule::kAllDone);
    const RunKey run = s.Submit(p);
    s.Succeed("list");
    s.FanOut("each", {{"1", "2", "3"}});
    s.Succeed("each[0]");
    s.Fail("each[1]");
    s.Succeed("each[2]");
    s.Succeed("after");
    EXPECT_EQ(s.Run(), RunState::kFailed);
    EXPECT_TRUE(s.Retry({"list"}).ok());
    EXPECT_EQ(s.States(),
              "list:SUBMITTING each:WAITING all:WAITING after:WAITING each[0]:WAITING each[1]:WAITING each[2]:WAITING");
    if (restart) s.Restart();
    s.Succeed("list");
    if (restart) s.Restart();
    s.FanOut("each", {{"7"}});
    EXPECT_EQ(s.State("each[1]"), StepState::kSkipped);
    EXPECT_EQ(s.ReasonOf("each[1]"), Reason::kStepRemoved);
    EXPECT_EQ(GraphOf(s, run).ItemJson(*GraphOf(s, run).FindStep("each[0]")), R"({"k":7})");
    if (restart) s.Restart();
    s.Fail("each[0]");
    s.Succeed("after");
    EXPECT_EQ(s.Run(), RunState::kFailed);
    // And more than ever before.
    EXPECT_TRUE(s.Retry({"list"}).ok());
    s.Succeed("list");
    if (restart) s.Restart();
    s.FanOut("each", {{"1", "2", "3", "4"}});
    EXPECT_THAT(Names(GraphOf(s, run)),
                ElementsAre("list", "each", "all", "after", "each[0]", "each[1]", "each[2]", "each[3]"));
    if (restart) s.Restart();
    for (const char* step : {"each[3]", "each[2]", "each[1]", "each[0]", "all", "after"}) s.Succeed(step);
    EXPECT_EQ(s.Run(), RunState::kSucceeded);
    EXPECT_THAT(s.store().faults(), IsEmpty());
  }
}

TEST(OtherListTest, AnInstanceSkippedBeforeItsListHasComeStaysSkipped) {
  Scene s;
  PipelineBuilder p;
  p.Step("list").Out("xs", true).Step("each").ForeachFrom("k", "list.xs").Out("y");
  p.Step("all").In("ys", "each[*].y").Rule(TriggerRule::kAllDone);
  s.Submit(p);
  s.Succeed("list");
  s.FanOut("each", {{"1", "2"}});
  s.Fail("each[0]");
  s.Succeed("each[1]");
  s.Succeed("all");
  EXPECT_TRUE(s.Retry({"list"}).ok());
  EXPECT_TRUE(s.Skip({"each[1]"}).ok());
  s.Succeed("list");
  s.FanOut("each", {{"1", "2"}});
  EXPECT_EQ(s.State("all"), StepState::kWaiting);
  s.Succeed("each[0]");
  s.Succeed("all");
  EXPECT_EQ(s.State("each[1]"), StepState::kSkipped);
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(OtherListTest, LinkedFanOutsAreMadeAgainTogether) {
  Scene s;
  PipelineBuilder p;
  p.Step("list").Out("xs", true).Step("one").ForeachFrom("k", "list.xs").Out("y");
  p.Step("two").ForeachFrom("k", "list.xs").In("y", "one[item].y").Out("z").Step("bad");
  s.Submit(p);
  s.Succeed("list");
  s.FanOut("one", {{"1", "2"}});
  s.FanOut("two", {{"1", "2"}});
  for (const char* step : {"one[0]", "one[1]", "two[0]", "two[1]"}) s.Succeed(step);
  s.Fail("bad");
  EXPECT_TRUE(s.Retry({"list"}).ok());
  s.Succeed("list");
  s.FanOut("one", {{"2", "3", "4"}});
  s.Succeed("one[2]");
  s.Restart();
  s.FanOut("two", {{"4", "2", "3"}});
  EXPECT_EQ(s.State("two[0]"), StepState::kSubmitting) << "it reads what one[2] made";
  EXPECT_EQ(s.State("two[1]"), StepState::kWaiting);
  for (const char* step : {"two[0]", "one[0]", "two[1]", "one[1]", "two[2]"}) s.Succeed(step);
  EXPECT_THAT(s.store().faults(), IsEmpty());
  EXPECT_EQ(s.Run(), RunState::kFailed) << "bad was not chosen";
}

TEST(NumberingTest, IsReadBackAndRefusesWhatItDidNotWrite) {
  PipelineBuilder p;
  p.Step("a").Step("each").Foreach("k", {"1", "2"});
  PipelineBuilder q;
  q.Step("each").Foreach("k", {"1", "2", "3"}).Step("b");
  const auto before = p.Graph();
  const auto pipeline = q.Graph();
  const Numbering numbering = Renumber(*before, *pipeline);
  const std::string bytes = EncodeNumbering(numbering);
  const auto graph = StoredGraph(pipeline, bytes, {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(Names(**graph), ElementsAre("a", "each[0]", "each[1]", "each[2]", "b"));
  EXPECT_EQ(EncodeNumbering(Renumber(**graph, *pipeline)), bytes) << "the same pipeline changes nothing";
  EXPECT_FALSE(StoredGraph(before, bytes, {}).ok()) << "it is of another pipeline";
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    Numbering out;
    EXPECT_FALSE(DecodeNumbering(bytes.substr(0, cut), &out)) << cut;
  }
  for (size_t at = 0; at < bytes.size(); ++at) {  // never a crash, and never a number that is there twice
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    (void)StoredGraph(pipeline, damaged, {});
  }
}

}  // namespace
}  // namespace orch::testing
