// Fan-outs over lists that are known only at run time, and conditions, as the dispatcher sees them.
#include "server/core/fanout.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// gen -> work (over gen.xs) -> sum
PipelineBuilder Simple() {
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("work").ForeachFrom("x", "gen.xs").Out("y", true);
  p.Step("sum").In("ys", "work[*].y");
  return p;
}

std::string Faults(PipelineBuilder& p) {
  std::string out;
  for (const Violation& v : p.Compile().violations) out += v.field + " " + v.reason + "; ";
  return out;
}

TEST(Fanout, InstancesComeWithTheList) {
  Scene s;
  s.Submit(Simple());
  EXPECT_EQ(s.States(), "gen:SUBMITTING work:WAITING sum:WAITING");
  s.Succeed("gen");
  EXPECT_THAT(s.Wants(), ElementsAre("fan out work", "release gen", "store gen", "submit gen"));
  EXPECT_EQ(s.State("work"), StepState::kReady);
  s.FanOut("work", {{"1", "2"}});
  EXPECT_EQ(s.States(), "gen:SUCCEEDED work:SUCCEEDED sum:WAITING work[0]:SUBMITTING work[1]:SUBMITTING");
  EXPECT_EQ(s.Row("work").message, "fanned out into 2 instances");
  s.Succeed("work[1]");
  EXPECT_EQ(s.State("sum"), StepState::kWaiting);
  s.Succeed("work[0]");
  EXPECT_EQ(s.State("sum"), StepState::kSubmitting);
  const Intent& last = s.intents().back();
  ASSERT_EQ(last.inputs.size(), 1U);
  EXPECT_EQ(last.inputs[0].size(), 2U);
  s.Succeed("sum");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(Fanout, AnEmptyListIsOneThatIsOk) {
  Scene s;
  s.Submit(Simple());
  s.Succeed("gen");
  s.FanOut("work", {{}});
  EXPECT_EQ(s.Row("work").message, "the list is empty");
  EXPECT_EQ(s.State("sum"), StepState::kSubmitting);
  EXPECT_THAT(s.intents().back().inputs[0], IsEmpty());
  s.Succeed("sum");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(Fanout, WithoutItsListThereIsNone) {
  Scene s;
  PipelineBuilder p = Simple();
  p.Step("anyway").After({"work"}).Rule(TriggerRule::kAllFailed);
  s.Submit(p);
  s.Fail("gen");
  EXPECT_EQ(s.States(), "gen:FAILED work:SKIPPED sum:SKIPPED anyway:SUBMITTING");
  EXPECT_EQ(s.ReasonOf("work"), Reason::kUpstreamFailed);
  EXPECT_THAT(s.Row("work").message, HasSubstr("`gen` is FAILED"));
}

TEST(Fanout, WhatIsNoListFailsIt) {
  Scene s;
  s.Submit(Simple());
  s.Succeed("gen");
  s.FanOutFails("work");
  EXPECT_EQ(s.States(), "gen:SUCCEEDED work:FAILED sum:SKIPPED");
  EXPECT_EQ(s.ReasonOf("work"), Reason::kFanoutInvalid);
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(Fanout, AGroupIsJudgedByItsInstances) {
  Scene s;
  PipelineBuilder p = Simple();
  p.Step("all-bad").After({"work"}).Rule(TriggerRule::kAllFailed);
  p.Step("one-good").After({"work"}).Rule(TriggerRule::kOneSuccess);
  s.Submit(p);
  s.Succeed("gen");
  s.FanOut("work", {{"1", "2"}});
  s.Fail("work[0]");
  s.Fail("work[1]");
  EXPECT_EQ(s.State("all-bad"), StepState::kSubmitting);
  EXPECT_EQ(s.State("one-good"), StepState::kSkipped);
}

TEST(Fanout, StagesGoOnItemByItem) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("a").ForeachFrom("x", "gen.xs").Out("o");
  p.Step("b").ForeachFrom("x", "gen.xs").In("i", "a[item].o").Out("o");
  p.Step("all").In("os", "b[*].o");
  s.Submit(p);
  s.Succeed("gen");
  s.Wants();
  s.FanOut("a", {{"1", "2", "3"}});
  s.Succeed("a[1]");  // before b has instances
  EXPECT_EQ(s.State("b"), StepState::kReady);
  s.FanOut("b", {{"3", "2"}});
  EXPECT_EQ(s.State("b[1]"), StepState::kSubmitting) << "its item is done";
  EXPECT_EQ(s.State("b[0]"), StepState::kWaiting);
  s.Succeed("a[2]");
  EXPECT_EQ(s.State("b[0]"), StepState::kSubmitting);
  s.Succeed("b[0]");
  s.Succeed("b[1]");
  EXPECT_EQ(s.State("all"), StepState::kSubmitting) << "a[0] has no part in it";
  s.Succeed("a[0]");
  s.Succeed("all");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(Fanout, WaitsForTheFanOutWhoseItemsItReads) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("slow").Out("xs", true);
  p.Step("a").ForeachFrom("x", "slow.xs").Out("o");
  p.Step("b").ForeachFrom("x", "gen.xs").In("i", "a[item].o");
  s.Submit(p);
  s.Succeed("gen");
  EXPECT_EQ(s.State("b"), StepState::kWaiting);
  s.Succeed("slow");
  s.FanOut("a", {{"1"}});
  EXPECT_EQ(s.State("b"), StepState::kReady);
  s.FanOut("b", {{"1"}});
  EXPECT_EQ(s.State("b[0]"), StepState::kWaiting);
  s.Succeed("a[0]");
  EXPECT_EQ(s.State("b[0]"), StepState::kSubmitting);
}

TEST(Fanout, OtherUpstreamsCountWheneverTheyEnd) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("early");
  p.Step("late");
  p.Step("work").ForeachFrom("x", "gen.xs").After({"early", "late"});
  s.Submit(p);
  s.Succeed("early");  // before there are instances
  s.Succeed("gen");
  s.FanOut("work", {{"1", "2"}});
  EXPECT_EQ(s.State("work[0]"), StepState::kWaiting);
  s.Fail("late");  // after
  EXPECT_EQ(s.State("work[0]"), StepState::kSkipped);
  EXPECT_EQ(s.State("work[1]"), StepState::kSkipped);
  EXPECT_EQ(s.Run(), RunState::kFailed);
}

TEST(Fanout, OfFanOuts) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("a").ForeachFrom("x", "gen.xs").Out("v", true);
  p.Step("b").ForeachFrom("v", "a[*].v").Foreach("k", {"\"p\"", "\"q\""}).Out("o");
  p.Step("end").In("os", "b[*].o");
  s.Submit(p);
  s.Succeed("gen");
  s.FanOut("a", {{"1", "2"}});
  s.Succeed("a[0]");
  EXPECT_EQ(s.State("b"), StepState::kWaiting);
  s.Wants();
  s.Succeed("a[1]");
  EXPECT_EQ(s.State("b"), StepState::kReady);
  for (const Intent& intent : s.intents()) {
    if (intent.kind != Intent::Kind::kResolveFanout) continue;
    ASSERT_EQ(intent.lists.size(), 2U);
    EXPECT_EQ(intent.lists[0].size(), 2U);
    EXPECT_THAT(intent.lists[1], IsEmpty());
  }
  s.FanOut("b", {{"10", "20"}, {}});
  EXPECT_EQ(s.core().Find(1)->graph->ItemJson(*s.core().Find(1)->graph->FindStep("b[2]")), R"({"v":20,"k":"p"})");
  for (const char* step : {"b[0]", "b[1]", "b[2]", "b[3]"}) s.Succeed(step);
  s.Succeed("end");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(Fanout, SurvivesARestart) {
  Scene s;
  PipelineBuilder p;
  p.Step("gen").Out("xs", true);
  p.Step("a").ForeachFrom("x", "gen.xs").Out("o");
  p.Step("b").ForeachFrom("x", "gen.xs").In("i", "a[item].o").Attempts(2);
  s.Submit(p);
  s.Succeed("gen");
  s.Wants();
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("fan out a"));
  s.FanOut("a", {{"1", "2"}});
  s.Succeed("a[0]");
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("fan out b"));
  s.FanOut("b", {{"2", "1"}});
  EXPECT_EQ(s.State("b[1]"), StepState::kSubmitting);
  s.Fail("b[1]");
  s.Restart();
  EXPECT_EQ(s.State("b[0]"), StepState::kWaiting);
  EXPECT_EQ(s.State("b[1]"), StepState::kBackoff);
  s.Succeed("a[1]");
  s.Succeed("b[0]");
  s.Pass(2 * kSecond);
  s.Succeed("b[1]");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(Fanout, StopsWithItsRun) {
  Scene s;
  s.Submit(Simple());
  s.Succeed("gen");
  s.Cancel();
  s.FanOut("work", {{"1"}});  // too late
  EXPECT_EQ(s.States(), "gen:SUCCEEDED work:CANCELLED sum:CANCELLED");
  EXPECT_EQ(s.Run(), RunState::kCancelled);
}

TEST(Fanout, IsToldFromMistakes) {
  const auto faults = [](auto change) {
    PipelineBuilder p;
    p.Step("gen").Out("xs", true).Out("file");
    p.Step("many").ForeachFrom("x", "gen.xs").Out("o").Out("v", true);
    change(p);
    return Faults(p);
  };
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").ForeachFrom("x", "gen.file"); }),
            "steps[2].foreach[0].from WRONG_TYPE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").ForeachFrom("x", "gen.nothing"); }),
            "steps[2].foreach[0].from UNKNOWN_REFERENCE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").ForeachFrom("x", "many[item].v"); }),
            "steps[2].foreach[0].from UNKNOWN_REFERENCE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").ForeachFrom("x", "many.v"); }),
            "steps[2].foreach[0].from WRONG_TYPE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").In("i", "many[0].o"); }),
            "steps[2].inputs.i.from WRONG_TYPE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").Foreach("x", {"1"}).In("i", "many[item].o"); }),
            "steps[2].inputs.i.from WRONG_TYPE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) { p.Step("b").ForeachFrom("x", "gen.xs").In("i", "gen.file", true); }),
            "steps[2].inputs.i.from WRONG_TYPE; ");
  EXPECT_EQ(faults([](PipelineBuilder& p) {
              p.Step("b").ForeachFrom("x", "c.v").Out("v", true);
              p.Step("c").ForeachFrom("x", "b[*].v").Out("v", true);
            }),
            "steps[2].foreach[0].from WRONG_TYPE; ");
}

TEST(Fanout, HasLimits) {
  const auto graph = Simple().Graph();
  const std::vector<std::vector<std::string>> three = {{"1", "2", "3"}};
  const auto message = [&](CompileLimits limits) {
    const auto items = ProductOf(*graph, 1, three, limits);
    return items.ok() ? std::string("ok") : std::string(items.status().message());
  };
  CompileLimits at;
  at.fanout_width = 3;
  at.steps_per_run = 6;  // three, and their group, gen and sum
  at.outputs_per_run = 4;
  at.item_bytes = 3;
  EXPECT_EQ(message(at), "ok");
  CompileLimits past = at;
  past.fanout_width = 2;
  EXPECT_THAT(message(past), HasSubstr("limit fanout_width"));
  past = at;
  past.steps_per_run = 5;
  EXPECT_THAT(message(past), HasSubstr("limit steps_per_run"));
  past = at;
  past.outputs_per_run = 3;
  EXPECT_THAT(message(past), HasSubstr("limit outputs_per_run"));
  past = at;
  past.item_bytes = 2;
  EXPECT_THAT(message(past), HasSubstr("limit message_bytes"));
}

TEST(Fanout, ItemsAreReadAsTheyWereWritten) {
  for (const Items& items : {Items{}, Items{{"1"}}, Items{{"1", "\"a\nb\""}, {"", "{}"}}}) {
    Items again;
    ASSERT_TRUE(DecodeItems(EncodeItems(items), &again));
    EXPECT_EQ(again, items);
  }
  Items out;
  const std::string good = EncodeItems({{"1", "2"}});
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(DecodeItems(good.substr(0, n), &out)) << n;
  EXPECT_FALSE(DecodeItems(good + "x", &out));
  EXPECT_FALSE(DecodeItems(std::string("\xff\xff\xff\xff\0\0\0\0", 8), &out));
}

TEST(Outside, AStepWaitsForAnArtifactOfAnotherRun) {
  Scene s;
  const RunKey maker = s.Submit(PipelineBuilder().Step("make").Out("model"));
  const RunKey reader = s.Submit(PipelineBuilder().Step("use").Artifact("m", "p.make.model@1"));
  EXPECT_THAT(s.Wants(), ElementsAre("resolve use", "submit make"));
  s.WaitsFor("use", "p.make.model@1");
  EXPECT_EQ(s.State("use"), StepState::kWaiting);
  EXPECT_EQ(s.Row("use").reason, Reason::kWaitingForInputs);
  EXPECT_THAT(s.Row("use").message, HasSubstr("p.make.model@1"));
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("resolve use"));
  s.WaitsFor("use", "p.make.model@1");
  s.Use(maker);
  s.Succeed("make");
  s.Use(reader);
  EXPECT_EQ(s.State("use"), StepState::kReady);
  s.Found("use", {7});
  EXPECT_EQ(s.State("use"), StepState::kSubmitting);
  EXPECT_THAT(s.intents().back().inputs, ElementsAre(ElementsAre(7)));
  s.Restart();
  EXPECT_TRUE(s.Apply(AttemptNotFound{s.Ref("use")}).ok());  // it never got there
  EXPECT_THAT(s.intents().back().inputs, ElementsAre(ElementsAre(7))) << "what it was given stays";
  EXPECT_EQ(s.core().awaiting_artifacts(), 0u);
}

TEST(Outside, WhoHasItOrHasEndedIsNotWokenAnyMore) {
  Scene s;
  s.Submit(PipelineBuilder().Step("use").Artifact("m", "p.make.model").Step("wait").Artifact("n", "p.make.other"));
  EXPECT_EQ(s.core().awaiting_artifacts(), 2u);
  s.Found("use", {7});
  s.WaitsFor("wait", "p.make.other");
  EXPECT_EQ(s.core().awaiting_artifacts(), 1u);
  s.Cancel();
  EXPECT_EQ(s.core().awaiting_artifacts(), 0u);
}

TEST(Outside, WhatLandsBetweenQuestionAndAnswerIsNotMissed) {
  Scene s;
  const RunKey maker = s.Submit(PipelineBuilder().Step("make").Out("model"));
  const RunKey reader = s.Submit(PipelineBuilder().Step("use").Artifact("m", "p.make.model"));
  s.Wants();
  s.Use(maker);
  s.Succeed("make");
  s.Wants();
  s.Use(reader);
  s.WaitsFor("use", "p.make.model");  // asked before it landed
  EXPECT_EQ(s.State("use"), StepState::kReady);
  EXPECT_THAT(s.Wants(), ElementsAre("resolve use"));
}

TEST(Outside, WhatIsPublishedEarlyCountsWhenItsMakerHasSucceeded) {
  Scene s;
  const RunKey maker = s.Submit(PipelineBuilder().Step("make").Out("model"));
  const RunKey reader = s.Submit(PipelineBuilder().Step("use").Artifact("m", "p.make.model"));
  s.WaitsFor("use", "p.make.model");
  s.Use(maker);
  s.Start("make");
  s.Publish("make");
  s.Use(reader);
  EXPECT_EQ(s.State("use"), StepState::kWaiting);
  s.Use(maker);
  s.End("make");
  s.Store("make");
  s.Use(reader);
  EXPECT_EQ(s.State("use"), StepState::kReady);
}

TEST(Outside, ACancelledStepWaitsForNothing) {
  Scene s;
  const RunKey maker = s.Submit(PipelineBuilder().Step("make").Out("model"));
  s.Submit(PipelineBuilder().Step("use").Artifact("m", "p.make.model"));
  s.WaitsFor("use", "p.make.model");
  s.Cancel();
  EXPECT_EQ(s.Run(), RunState::kCancelled);
  s.Use(maker);
  s.Succeed("make");
}

TEST(Outside, Names) {
  const auto faults = [](const char* ref) {
    PipelineBuilder p;
    p.Step("a").Artifact("m", ref);
    return Faults(p);
  };
  for (const char* good : {"digits-model", "p.make.model@12", "p.train[0].model", "a@b@3"}) EXPECT_EQ(faults(good), "");
  for (const char* bad : {"", "@1", "a@", "a@0", "a@-1", "a@x"}) {
    EXPECT_EQ(faults(bad), "steps[0].inputs.m.artifact UNKNOWN_REFERENCE; ") << bad;
  }
}

TEST(When, IsAskedBeforeAStepStarts) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Out("n", true).Out("file").Out("m", true);
  p.Step("b").Foreach("k", {"1", "2"}).Out("v", true);
  p.Step("c").After({"a", "b"}).When(".a.n > 1");
  p.Step("d").After({"c"});
  s.Submit(p);
  for (const char* step : {"a", "b[0]", "b[1]"}) s.Succeed(step);
  const Intent& asked = s.intents().back();
  EXPECT_EQ(asked.kind, Intent::Kind::kResolveStep);
  EXPECT_EQ(asked.when_values.size(), 4U) << "two of a, one of each b";
  s.WhenFalse("c");
  EXPECT_EQ(s.State("c"), StepState::kSkipped);
  EXPECT_EQ(s.ReasonOf("c"), Reason::kWhenFalse);
  EXPECT_EQ(s.State("d"), StepState::kSkipped);
  EXPECT_EQ(s.Row("d").message, "rule all_success: `c` is SKIPPED (WHEN_FALSE)");
  EXPECT_EQ(s.Run(), RunState::kSucceeded);
}

TEST(When, IsAskedAgainAfterARestartAndNotForARetry) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").When("true").Attempts(2);
  s.Submit(p);
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a"));
  s.Restart();
  EXPECT_THAT(s.Wants(), ElementsAre("resolve a"));
  s.Resolve("a", false);
  s.Fail("a");
  s.Wants();
  s.Pass(2 * kSecond);
  EXPECT_THAT(s.Wants(), ElementsAre("submit a"));
}

TEST(When, NamesWhatItMay) {
  const auto faults = [](const std::string& when) {
    PipelineBuilder p;
    p.spec().parameters.push_back({});
    p.spec().parameters.back().name = "n";
    p.Step("a").Out("v", true).Out("file");
    p.Step("other").Out("v", true);
    p.Step("many").Foreach("k", {"1"}).Out("v", true);
    p.Step("b").After({"a", "many"}).When(when);
    return Faults(p);
  };
  for (const char* when : {".a.v == 1", ".params.n > 2", ".many[0].v > 1", "[.many[].v] | add > 3", ".a | .anything"}) {
    EXPECT_EQ(faults(when), "") << when;
  }
  for (const char* when : {".other.v", ".nobody", ".a.file", ".a.w", ".params.m"}) {
    EXPECT_EQ(faults(when), "steps[3].when UNKNOWN_REFERENCE; ") << when;
  }
  EXPECT_EQ(faults(".many.v > 1"), "steps[3].when WRONG_TYPE; ");
  EXPECT_EQ(faults("now > 1"), "steps[3].when WHEN_INVALID; ");
  EXPECT_EQ(faults(std::string(9'999, ' ') + "1"), "");
  EXPECT_EQ(faults(std::string(10'000, ' ') + "1"), "steps[3].when TOO_LARGE; ");
}

TEST(When, SoManyDifferentOnes) {
  const auto violations = [](int64_t limit) {
    PipelineBuilder p;
    for (int n = 0; n < 3; ++n) p.Step(absl::StrCat("s", n)).When(absl::StrCat(n % 2, " == 1"));
    CompileLimits limits;
    limits.expressions = limit;
    return p.Compile(limits).violations;
  };
  EXPECT_EQ(violations(2).size(), 0U);
  const auto refused = violations(1);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_THAT(refused[0].description, HasSubstr("limit expressions"));
}

}  // namespace
}  // namespace orch::testing
