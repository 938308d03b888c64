// Every violation by its field and reason, and what a graph looks like.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "tests/core/builders.h"

namespace orch::testing {
namespace {

std::string Faults(PipelineBuilder& pipeline, CompileLimits limits = {}) {
  const Compiled compiled = pipeline.Compile(limits);
  EXPECT_EQ(compiled.graph == nullptr, !compiled.violations.empty());
  std::vector<std::string> out;
  for (const Violation& v : compiled.violations) {
    EXPECT_FALSE(v.description.empty());
    out.push_back(absl::StrCat(v.field, " ", v.reason));
  }
  return absl::StrJoin(out, ", ");
}
std::string Faults(PipelineBuilder&& pipeline, CompileLimits limits = {}) { return Faults(pipeline, limits); }

TEST(CompileTest, GraphsAreNumberedInOrder) {
  const auto graph = PipelineBuilder()
                         .Step("a")
                         .Out("x")
                         .Out("y")
                         .Step("none")
                         .Foreach("k", {})
                         .Step("t")
                         .Foreach("k", {"1", "2"})
                         .Foreach("j", {"\"u\"", "\"v\""})
                         .Out("m")
                         .Step("z")
                         .Graph();
  EXPECT_EQ(graph->step_count(), 6u);
  EXPECT_EQ(graph->output_count(), 6u);
  EXPECT_EQ(graph->StepName(0), "a");
  EXPECT_EQ(graph->StepName(1), "t[0]");
  EXPECT_EQ(graph->StepName(5), "z");
  EXPECT_EQ(graph->ItemJson(2), R"({"k":1,"j":"v"})");
  EXPECT_EQ(graph->OutputSlot(4, 0), 5u);
  for (StepIx ix = 0; ix < graph->step_count(); ++ix) EXPECT_EQ(graph->FindStep(graph->StepName(ix)), ix);
  for (const char* name : {"t", "t[4]", "t[x]", "t[1", "t[ 1]", "t[+1]", "t[]", "none[0]", "z[0]", "q", ""}) {
    EXPECT_EQ(graph->FindStep(name), std::nullopt) << name;
  }
}

TEST(CompileTest, TextGraphs) {
  const auto graph = Dag("a->b a->c b,c->d").Graph();
  EXPECT_EQ(graph->templates()[0].edges.size(), 2u);
  EXPECT_EQ(graph->templates()[3].upstreams, 2u);
  EXPECT_EQ(Faults(Dag("a->b a->b")), "") << "an upstream named twice counts once";
}

TEST(CompileTest, TheLongestWayToTheEndIsCounted) {
  const auto graph = Dag("a->b b->c a->c d a->e").Graph();
  std::vector<uint32_t> below;
  for (const StepTemplate& step : graph->templates()) below.push_back(step.below);
  EXPECT_THAT(below, ::testing::ElementsAre(2, 1, 0, 0, 0));
}

TEST(CompileTest, Cycles) {
  EXPECT_EQ(Faults(Dag("a->a")), "steps[0].after[0] CYCLE");
  PipelineBuilder p = Dag("s->a a->b b->c c->a c->z");
  const Compiled compiled = p.Compile();
  ASSERT_EQ(compiled.violations.size(), 1u);
  EXPECT_EQ(compiled.violations[0].reason, "CYCLE");
  EXPECT_TRUE(absl::StrContains(compiled.violations[0].description, "a -> b -> c -> a") ||
              absl::StrContains(compiled.violations[0].description, "b -> c -> a -> b") ||
              absl::StrContains(compiled.violations[0].description, "c -> a -> b -> c"))
      << compiled.violations[0].description;
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Out("x").In("i", "a.x")), "steps[0].inputs.i.from CYCLE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Out("x").In("i", "b.x").Step("b").Out("x").In("i", "a.x")),
            "steps[0] CYCLE");
}

TEST(CompileTest, UnknownReferences) {
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").After({"q"})), "steps[0].after[0] UNKNOWN_REFERENCE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").In("i", "q.x")), "steps[0].inputs.i.from UNKNOWN_REFERENCE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").In("i", "nonsense")), "steps[0].inputs.i.from UNKNOWN_REFERENCE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Out("x").Step("b").In("i", "a.y")),
            "steps[1].inputs.i.from UNKNOWN_REFERENCE");
  PipelineBuilder p;
  p.Step("a").options().params = {"q"};
  EXPECT_EQ(Faults(p), "steps[0].params[0] UNKNOWN_REFERENCE");
  PipelineBuilder train;
  train.Step("train").Step("b").After({"Train"});
  EXPECT_TRUE(absl::StrContains(train.Compile().violations.at(0).description, "did you mean `train`?"));
}

TEST(CompileTest, AllAtOnce) {
  PipelineBuilder p;
  p.Step("a").After({"q"}).In("i", "r.x").Command({"${params.none}", "${inputs.i"}).Step("a");
  EXPECT_EQ(Faults(p),
            "steps[1].name DUPLICATE_NAME, steps[0].inputs.i.from UNKNOWN_REFERENCE, steps[0].after[0] "
            "UNKNOWN_REFERENCE, steps[0].command[0] UNKNOWN_REFERENCE, steps[0].command[1] TEMPLATE_INVALID");
}

TEST(CompileTest, FanOuts) {
  const auto with = [](const char* ref, bool early = false) {
    PipelineBuilder p;
    p.Step("plain").Out("m").Step("t").Foreach("k", {"1", "2"}).Out("m");
    p.Step("c").Foreach("k", {"2", "1"}).In("i", ref, early);
    return Faults(p);
  };
  EXPECT_EQ(with("t[*].m"), "");
  EXPECT_EQ(with("t[item].m"), "");
  EXPECT_EQ(with("t[1].m"), "");
  EXPECT_EQ(with("t[item].m", true), "");
  EXPECT_EQ(with("t.m"), "steps[2].inputs.i.from WRONG_TYPE");
  EXPECT_EQ(with("t[2].m"), "steps[2].inputs.i.from UNKNOWN_REFERENCE");
  EXPECT_EQ(with("plain[*].m"), "steps[2].inputs.i.from WRONG_TYPE");
  EXPECT_EQ(with("plain[item].m"), "steps[2].inputs.i.from WRONG_TYPE");
  EXPECT_EQ(with("plain[0].m"), "steps[2].inputs.i.from UNKNOWN_REFERENCE");
  EXPECT_EQ(with("t[*].m", true), "steps[2].inputs.i.early WRONG_TYPE");
  EXPECT_EQ(
      Faults(
          PipelineBuilder().Step("t").Foreach("k", {"1"}).Out("m").Step("c").Foreach("k", {"3"}).In("i", "t[item].m")),
      "steps[1].inputs.i.from UNKNOWN_REFERENCE")
      << "no such item";
  EXPECT_EQ(Faults(PipelineBuilder().Step("t").Foreach("k", {"1"}).Out("m").Step("c").In("i", "t[item].m")),
            "steps[1].inputs.i.from WRONG_TYPE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("t").Foreach("k", {"1"}).Foreach("k", {"2"})),
            "steps[0].foreach[1].key DUPLICATE_NAME");
}

TEST(CompileTest, ItemsAreMatchedByTheProducersKeys) {
  PipelineBuilder p;
  p.Step("t").Foreach("m", {"1", "2"}).Out("x");
  p.Step("c").Foreach("m", {"1", "2"}).Foreach("f", {"7", "8", "9"}).In("x", "t[item].x");
  const auto graph = p.Graph();
  EXPECT_THAT(graph->templates()[1].inputs[0].item_producer, ::testing::ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(graph->templates()[0].edges[0].item_offsets, ::testing::ElementsAre(0, 3, 6));
}

TEST(CompileTest, EarlyEdgesAreKeptOnlyWhereNothingElseIsAwaited) {
  PipelineBuilder p;
  p.Step("a").Out("x").Out("y");
  p.Step("b").In("x", "a.x", true);
  p.Step("c").In("x", "a.x", true).In("y", "a.y");
  const auto graph = p.Graph();
  ASSERT_EQ(graph->templates()[0].edges.size(), 2u);
  EXPECT_TRUE(graph->templates()[0].edges[0].early);
  EXPECT_FALSE(graph->templates()[0].edges[1].early);
}

TEST(CompileTest, Templates) {
  const auto with = [](const char* text) {
    PipelineBuilder p;
    p.spec().parameters.push_back({"folds", ParameterType::kInt, "3"});
    p.Step("a").Out("v", true).Out("f");
    p.Step("b").In("v", "a.v").In("f", "a.f").Out("m").Foreach("k", {"1"}).Command({text});
    return Faults(p);
  };
  for (const char* good : {"${params.folds}", "${inputs.f}", "${outputs.m}", "${item.k}", "${values.v}", "${run.name}",
                           "${step.name}", "${attempt}", "${HOME}", "$${params.q}"}) {
    EXPECT_EQ(with(good), "") << good;
  }
  for (const char* bad :
       {"${params.q}", "${inputs.q}", "${outputs.q}", "${item.q}", "${values.f}", "${run.id}", "${step.q}"}) {
    EXPECT_EQ(with(bad), "steps[1].command[0] UNKNOWN_REFERENCE") << bad;
  }
  EXPECT_EQ(with("${outputs.m"), "steps[1].command[0] TEMPLATE_INVALID");
  PipelineBuilder p;
  p.Step("a").options().env = {{"X", "${params.q}"}};
  p.options().working_dir = "${item.q}";
  EXPECT_EQ(Faults(p), "steps[0].env.X UNKNOWN_REFERENCE, steps[0].working_dir UNKNOWN_REFERENCE");
}

TEST(CompileTest, LimitsAtBelowAndAbove) {
  CompileLimits limits;
  limits.fanout_width = 4;
  limits.steps_per_run = 6;
  const auto wide = [&](int width, int plain) {
    PipelineBuilder p;
    std::vector<std::string> items;
    for (int i = 0; i < width; ++i) items.push_back(std::to_string(i));
    p.Step("t").Foreach("k", items);
    for (int i = 0; i < plain; ++i) p.Step(absl::StrCat("s", i));
    return Faults(p, limits);
  };
  EXPECT_EQ(wide(4, 2), "");
  EXPECT_EQ(wide(4, 1), "");
  EXPECT_EQ(wide(4, 3), "steps TOO_LARGE");
  EXPECT_EQ(wide(5, 0), "steps[0].foreach TOO_LARGE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("t").Foreach("a", {"1", "2"}).Foreach("b", {"1", "2", "3"}), limits),
            "steps[0].foreach TOO_LARGE")
      << "a product counts";
}

TEST(CompileTest, NamesThatMeetInTheEnvironment) {
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Out("x-1").Out("x_1")), "steps[0].outputs.x_1 NAME_CONFLICT");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Out("o").Step("b").In("x-1", "a.o").In("x_1", "a.o")),
            "steps[1].inputs.x_1 NAME_CONFLICT");
  EXPECT_EQ(VariableName("ORCH_INPUT_", "a-b.9"), "ORCH_INPUT_A_B_9");
}

TEST(CompileTest, WhatIsNotInThisBuild) {
  PipelineBuilder p;
  p.Step("a").options().hooks.on_failure.webhook = "http://x";
  EXPECT_EQ(Faults(p), "steps[0].hooks.on_failure.webhook NOT_IN_THIS_BUILD");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Uri("x", "https://example.org/x")), "steps[0].inputs.x.uri WRONG_TYPE");
  EXPECT_EQ(Faults(PipelineBuilder().Step("a").Uri("x", "file:///x")), "");
}

TEST(CompileTest, HooksKnowWhatTheyAreAbout) {
  PipelineBuilder p;
  p.Step("a").Out("x").options().hooks.on_success.command = {"say", "${outputs.x} ${step.name} ${run.name} ${attempt}"};
  p.Step("b").In("i", "a.x").options().hooks.on_failure.command = {"${inputs.j}", "${outputs.x", "${HOME}"};
  p.spec().hooks.on_failure.command = {"${run.name}", "${step.name}", "${params.none}"};
  EXPECT_EQ(Faults(p),
            "steps[1].hooks.on_failure.command.command[0] UNKNOWN_REFERENCE, "
            "steps[1].hooks.on_failure.command.command[1] TEMPLATE_INVALID, "
            "hooks.on_failure.command.command[1] UNKNOWN_REFERENCE, "
            "hooks.on_failure.command.command[2] UNKNOWN_REFERENCE");
  PipelineBuilder good;
  good.Step("a").Out("x").options().hooks.on_success.command = {"${outputs.x}"};
  good.Step("b").options().hooks.on_success.command = {"plain"};
  const auto graph = good.Graph();
  EXPECT_TRUE(graph->templates()[0].hook_data);
  EXPECT_FALSE(graph->templates()[1].hook_data);
}

TEST(CompileTest, Demands) {
  PipelineBuilder p;
  p.Step("a").Cpu(500).Pool("db", 2).options().resources.gpu = 1;
  const auto graph = p.Graph();
  EXPECT_THAT(graph->templates()[0].demands,
              ::testing::ElementsAre(Demand{"cpu", 500}, Demand{"gpu", 1}, Demand{"pool/db", 2}));
  EXPECT_THAT(Dag("a").Graph()->templates()[0].demands, ::testing::ElementsAre(Demand{"cpu", 1000}));
}

TEST(CompileTest, References) {
  const auto read = [](const char* text) -> std::string {
    const auto ref = ParseStepReference(text);
    if (!ref) return "-";
    return absl::StrCat(ref->step, "/", static_cast<int>(ref->selector), "/", ref->index, "/", ref->output);
  };
  EXPECT_EQ(read("a.x"), "a/0/0/x");
  EXPECT_EQ(read("a[*].x"), "a/1/0/x");
  EXPECT_EQ(read("a[item].x"), "a/2/0/x");
  EXPECT_EQ(read("a[12].x"), "a/3/12/x");
  for (const char* bad : {"", "a", ".x", "a.", "a[].x", "a[b].x", "a[1.x", "a[-1].x", "[1].x", "a[ 1].x", "a[+1].x"}) {
    EXPECT_EQ(read(bad), "-") << bad;
  }
}

}  // namespace
}  // namespace orch::testing
