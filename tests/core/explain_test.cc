// What the dispatcher says of waiting steps, and the tables of ended ones; and how long a run would take.
#include "server/core/explain.h"

#include <gmock/gmock.h>

#include "server/core/estimate.h"
#include "tests/core/scene.h"

namespace orch::testing {
namespace {

using ::testing::HasSubstr;

Explained Why(Scene& s, RunKey run, const std::string& step) {
  const auto explained = s.core().Explain(run, *s.core().Find(run)->graph->FindStep(step));
  EXPECT_TRUE(explained.has_value());
  return explained.value_or(Explained());
}

TEST(ExplainTest, AnOpenInputNamesItsProducerAndItsState) {
  Scene s;
  PipelineBuilder p;
  p.Step("ingest").Out("table");
  p.Step("train").In("data", "ingest.table").After({"other"});
  p.Step("other");
  const RunKey run = s.Submit(p);
  s.Start("ingest");
  const Explained e = Why(s, run, "train");
  ASSERT_EQ(e.causes.size(), 2u);
  EXPECT_EQ(e.causes[0].reason, Reason::kWaitingForInputs);
  EXPECT_EQ(e.causes[0].input, "data");
  EXPECT_EQ(e.causes[0].step, "ingest");
  EXPECT_EQ(e.causes[0].step_state, StepState::kRunning);
  EXPECT_EQ(e.causes[1].step, "other");
  EXPECT_THAT(e.summary, HasSubstr("`train` waits: input `data` comes from `ingest` (RUNNING)"));
}

TEST(ExplainTest, AFanInSaysHowManyAreOpen) {
  Scene s;
  PipelineBuilder p;
  p.Step("s").Foreach("i", {"1", "2", "3"}).Out("x");
  p.Step("sum").In("all", "s[*].x");
  const RunKey run = s.Submit(p);
  s.Succeed("s[1]");
  const Explained e = Why(s, run, "sum");
  ASSERT_EQ(e.causes.size(), 1u);
  EXPECT_EQ(e.causes[0].step, "s[0]");
  EXPECT_EQ(e.causes[0].more, 1);
}

TEST(ExplainTest, AFullPoolNamesItsHolders) {
  Scene s;
  EXPECT_TRUE(s.Apply(PoolChanged{"db", 1, true}).ok());
  PipelineBuilder p;
  p.Step("first").Pool("db", 1);
  p.Step("second").Pool("db", 1);
  const RunKey run = s.Submit(p);
  const Explained e = Why(s, run, "second");
  ASSERT_EQ(e.causes.size(), 1u);
  EXPECT_EQ(e.causes[0].reason, Reason::kWaitingForSlot);
  EXPECT_EQ(e.causes[0].pool, "pool/db");
  EXPECT_EQ(e.causes[0].wanted, 1);
  EXPECT_EQ(e.causes[0].used, 1);
  EXPECT_EQ(e.causes[0].capacity, 1);
  ASSERT_EQ(e.causes[0].holders.size(), 1u);
  EXPECT_EQ(e.causes[0].holders[0].step, "first");
  EXPECT_EQ(e.causes[0].holders[0].run, "run-1");
}

TEST(ExplainTest, TheRunsOwnLimitAndTheCpu) {
  Scene s;
  s.Offer({{"cpu", 1000}});
  PipelineBuilder p;
  p.Step("a");
  p.Step("b");
  Scene::RunOptions options;
  options.max_parallel = 1;
  const RunKey run = s.Submit(p, options);
  const Explained e = Why(s, run, "b");
  ASSERT_EQ(e.causes.size(), 2u);
  EXPECT_EQ(e.causes[0].pool, "o/cpu");
  EXPECT_THAT(e.causes[0].text, HasSubstr("wants 1 of `o/cpu`, of which 1 of 1"));
  EXPECT_EQ(e.causes[1].pool, "max_parallel");
}

TEST(ExplainTest, ABackOffSaysUntilWhen) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Attempts(2, 10 * kSecond);
  const RunKey run = s.Submit(p);
  s.Fail("a");
  const Explained e = Why(s, run, "a");
  ASSERT_EQ(e.causes.size(), 1u);
  EXPECT_EQ(e.causes[0].reason, Reason::kBackoffBeforeRetry);
  EXPECT_EQ(e.causes[0].until, s.Row("a").retry_at);
  EXPECT_THAT(e.causes[0].text, HasSubstr("attempt 1 ended with EXIT_CODE"));
}

TEST(ExplainTest, ThePlatformsPhases) {
  Scene s;
  PipelineBuilder p;
  p.Step("a").Run(60 * kSecond);
  const RunKey run = s.Submit(p);
  EXPECT_THAT(Why(s, run, "a").summary, HasSubstr("is being handed to orchestrator `o`"));
  s.Accept("a");
  EXPECT_THAT(Why(s, run, "a").summary, HasSubstr("orchestrator `o` has it as ext"));
  s.Start("a");
  const Explained e = Why(s, run, "a");
  EXPECT_THAT(e.summary, HasSubstr("attempt 1 runs on `o`"));
  EXPECT_EQ(e.causes[0].until, s.Attempt("a", 1).started + 60 * kSecond);
}

TEST(ExplainTest, ARunListsWhatHoldsItUp) {
  Scene s;
  s.Offer({{"cpu", 1000}});
  PipelineBuilder p;
  p.Step("a");
  p.Step("b");
  p.Step("c").After({"a"});
  const RunKey run = s.Submit(p);
  const auto e = s.core().Explain(run);
  ASSERT_TRUE(e.has_value());
  ASSERT_EQ(e->steps.size(), 2u);
  EXPECT_EQ(e->steps[0].state, StepState::kSubmitting);
  EXPECT_THAT(e->steps[1].text, HasSubstr("`o/cpu`"));
  EXPECT_THAT(e->summary, HasSubstr("1 step waits for others"));
  EXPECT_FALSE(s.core().Explain(run + 1).has_value());
}

TEST(ExplainTest, ASkippedStepNamesTheRuleAndTheUpstream) {
  PipelineBuilder p;
  p.Step("ok");
  p.Step("bad");
  p.Step("after").After({"ok", "bad"});
  const auto graph = p.Graph();
  RunRow run;
  run.state = RunState::kFailed;
  StepRow row;
  row.ix = 2;
  row.state = StepState::kSkipped;
  row.reason = Reason::kUpstreamFailed;
  const StepFinder find = [](StepIx first, uint32_t count, uint32_t states, size_t) {
    StepsFound out;
    if (first <= 1 && 1 < first + count && (states & Bit(StepState::kFailed)) != 0) {
      out.total = 1;
      out.steps.push_back({1, StepState::kFailed, Reason::kExitCode, ""});
    }
    return out;
  };
  const Explained e = ExplainEnded(*graph, "r", run, row, find);
  ASSERT_EQ(e.causes.size(), 1u);
  EXPECT_EQ(e.causes[0].step, "bad");
  EXPECT_EQ(e.causes[0].reason, Reason::kUpstreamFailed);
  EXPECT_THAT(e.summary, HasSubstr("its rule `all_success` was not met, it comes after `bad` (FAILED)"));
}

// The steps of a graph that have ended, for whoever looks for them.
StepFinder Among(std::vector<BriefStep> steps) {
  return [steps](StepIx first, uint32_t count, uint32_t states, size_t limit) {
    StepsFound out;
    for (const BriefStep& step : steps) {
      if (step.ix < first || step.ix >= first + count || (states & Bit(step.state)) == 0) continue;
      ++out.total;
      if (out.steps.size() < limit) out.steps.push_back(step);
    }
    return out;
  };
}

Explained WhySkipped(const Graph& graph, StepIx ix, const StepFinder& find, Reason reason) {
  RunRow run;
  run.state = RunState::kSucceeded;
  StepRow row;
  row.ix = ix;
  row.state = StepState::kSkipped;
  row.reason = reason;
  return ExplainEnded(graph, "r", run, row, find);
}

TEST(ExplainTest, ASkippedStepNamesWhereItsChainBegan) {
  const auto graph = Dag("a->b b->c c->d").Graph();
  const StepFinder find = Among({{0, StepState::kSkipped, Reason::kWhenFalse, "`.n > 5` is false"},
                                 {1, StepState::kSkipped, Reason::kUpstreamSkipped, ""},
                                 {2, StepState::kSkipped, Reason::kUpstreamSkipped, ""}});
  const Explained far = WhySkipped(*graph, 3, find, Reason::kUpstreamSkipped);
  EXPECT_THAT(far.summary, HasSubstr("it comes after `c` (SKIPPED); it began with `a` (SKIPPED): WHEN_FALSE, `.n > 5` "
                                     "is false"));
  ASSERT_EQ(far.causes.size(), 2u);
  EXPECT_EQ(far.causes[0].step, "c");
  EXPECT_EQ(far.causes[1].step, "a");
  EXPECT_EQ(far.causes[1].reason, Reason::kWhenFalse);
  EXPECT_EQ(far.causes[1].step_state, StepState::kSkipped);
  // Of the step right behind it the same cause says both.
  const Explained near = WhySkipped(*graph, 1, find, Reason::kUpstreamSkipped);
  ASSERT_EQ(near.causes.size(), 1u);
  EXPECT_THAT(near.summary, HasSubstr("it comes after `a` (SKIPPED): WHEN_FALSE, `.n > 5` is false"));
}

TEST(ExplainTest, AChainThatBeganWithAFailureOrARuleSaysSo) {
  const auto graph = Dag("a->b b->c").Graph();
  const Explained failed = WhySkipped(*graph, 2,
                                      Among({{0, StepState::kFailed, Reason::kExitCode, "exit code 3"},
                                             {1, StepState::kSkipped, Reason::kUpstreamFailed, ""}}),
                                      Reason::kUpstreamFailed);
  EXPECT_THAT(failed.summary, HasSubstr("it began with `a` (FAILED): exit code 3"));
  const Explained rule =
      WhySkipped(*graph, 2,
                 Among({{0, StepState::kSucceeded, Reason::kNone, ""},
                        {1, StepState::kSkipped, Reason::kTriggerRule, "rule one_failed: none did"}}),
                 Reason::kUpstreamSkipped);
  EXPECT_THAT(rule.summary, HasSubstr("it comes after `b` (SKIPPED): TRIGGER_RULE, rule one_failed: none did"));
}

TEST(ExplainTest, EndsInWords) {
  EXPECT_EQ(EndInWords(Reason::kExitCode, 3, std::nullopt, 0, ""), "exit code 3");
  EXPECT_EQ(EndInWords(Reason::kSignaled, std::nullopt, 11, 5 << 20, ""), "ended by signal 11");
  EXPECT_EQ(EndInWords(Reason::kOutOfMemory, std::nullopt, 9, 512 << 20, ""),
            "out of memory, memory peaked at 512.0 MiB");
  // What the backend's message says already is said once.
  EXPECT_EQ(EndInWords(Reason::kExitCode, 3, std::nullopt, 0, "exit code 3"), "exit code 3");
  EXPECT_EQ(EndInWords(Reason::kSignaled, std::nullopt, 9, 1 << 20, "ended by signal 9 (Killed)"),
            "ended by signal 9 (Killed), memory peaked at 1.0 MiB");
  EXPECT_EQ(EndInWords(Reason::kOutputMissing, 0, std::nullopt, 0, "no `x`"), "OUTPUT_MISSING: no `x`");
}

EstimateInput Input(const Graph& graph, std::vector<int64_t> seconds) {
  EstimateInput in;
  in.graph = &graph;
  for (const int64_t s : seconds) in.micros.push_back(s * kSecond);
  in.orchestrator = "o";
  return in;
}

TEST(EstimateTest, TheLongestWayWithoutLimits) {
  const auto graph = Dag("a->b a->c b,c->d").Graph();
  const Estimate e = EstimateRun(Input(*graph, {1, 5, 2, 1}));
  EXPECT_EQ(e.total_micros, 7 * kSecond);
  EXPECT_THAT(e.critical, ::testing::ElementsAre(0, 1, 3));
  EXPECT_EQ(e.starts[3], 6 * kSecond);
}

TEST(EstimateTest, SlotsMakeStepsWait) {
  const auto graph = Dag("a b c d").Graph();
  EstimateInput in = Input(*graph, {2, 2, 2, 2});
  in.capacity["o/cpu"] = 2000;
  EXPECT_EQ(EstimateRun(in).total_micros, 4 * kSecond);
  in.max_parallel = 1;
  EXPECT_EQ(EstimateRun(in).total_micros, 8 * kSecond);
}

TEST(EstimateTest, WhatIsCachedTakesNothing) {
  const auto graph = Dag("a->b b->c").Graph();
  const Estimate e = EstimateRun(Input(*graph, {0, 3, 0}));
  EXPECT_EQ(e.total_micros, 3 * kSecond);
  EXPECT_THAT(e.critical, ::testing::ElementsAre(1));
  EXPECT_EQ(e.order.size(), 3u);
}

TEST(EstimateTest, AnEmptyFanOutHoldsNobodyUp) {
  PipelineBuilder p;
  p.Step("s").Foreach("i", {}).Out("x");
  p.Step("sum").In("all", "s[*].x");
  const auto graph = p.Graph();
  EXPECT_EQ(EstimateRun(Input(*graph, {4})).total_micros, 4 * kSecond);
}

}  // namespace
}  // namespace orch::testing
