// Pipelines that fuzzing found. Each ended the daemon, took its memory, or meant something else than it said.
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "orch/v1/pipeline.pb.h"
#include "server/core/compile.h"
#include "server/engine/parameters.h"
#include "server/engine/render.h"
#include "server/rpc/convert_pipeline.h"

namespace orch {
namespace {

using testing::HasSubstr;

StepSpec Step(std::string name) {
  StepSpec step;
  step.name = std::move(name);
  step.command = {"x"};
  return step;
}

// `b` makes an output for each item of `keys`; `c` wants the one of its own item.
PipelineSpec ByItem(std::vector<ForeachKey> keys, std::vector<ForeachKey> own) {
  PipelineSpec spec;
  spec.name = "p";
  spec.steps.push_back(Step("b"));
  spec.steps[0].foreach = std::move(keys);
  spec.steps[0].outputs = {{"o", "", false, ""}};
  spec.steps.push_back(Step("c"));
  spec.steps[1].foreach = std::move(own);
  spec.steps[1].inputs = {{"x", InputSpec::Source::kFrom, "b[item].o", false}};
  return spec;
}

TEST(ItemOfAnUncountedFanOut, IsRefusedAndDividesByNothing) {
  PipelineSpec spec = ByItem({{"k", {}, "a.list"}}, {{"k", {"1"}, ""}});
  spec.steps.push_back(Step("a"));
  spec.steps[2].outputs = {{"list", "", true, ""}};
  const Compiled at_run_time = Compile(std::move(spec), {});
  ASSERT_EQ(at_run_time.violations.size(), 1U);
  EXPECT_EQ(at_run_time.violations[0].reason, "WRONG_TYPE");
  CompileLimits narrow;
  narrow.fanout_width = 2;
  const Compiled too_wide =
      Compile(ByItem({{"k", {"1", "2", "3"}, ""}, {"l", {}, ""}}, {{"k", {"1"}, ""}, {"l", {"1"}, ""}}), narrow);
  ASSERT_EQ(too_wide.violations.size(), 1U);
  EXPECT_EQ(too_wide.violations[0].reason, "TOO_LARGE");
}

TEST(StepsThatSayTheSame, ShareIt) {
  v1::Pipeline pipeline;
  pipeline.set_name("p");
  for (const double cpu : {1.0, 1.0, 2.0, 1.0}) {
    v1::StepSpec* step = pipeline.add_steps();
    step->set_name(absl::StrCat("s", pipeline.steps_size()));
    step->add_command("x");
    step->mutable_resources()->set_cpu(cpu);
  }
  const absl::StatusOr<PipelineSpec> spec = rpc::ToSpec(pipeline, Limits());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->steps[0].set_options.get(), spec->steps[1].set_options.get());
  std::vector<int64_t> cpus;
  for (const StepSpec& step : spec->steps) cpus.push_back(step.options().resources.cpu_millis);
  EXPECT_THAT(cpus, testing::ElementsAre(1000, 1000, 2000, 1000));
}

TEST(OutputsOfARun, AreCountedBeforeThereIsMemoryForThem) {
  const auto make = [] {
    PipelineSpec spec;
    spec.name = "p";
    spec.steps.push_back(Step("a"));
    spec.steps[0].foreach.push_back({"k", {"1", "2", "3"}, ""});
    spec.steps[0].outputs = {{"o", "", false, ""}, {"p", "", false, ""}};
    return spec;
  };
  CompileLimits limits;
  limits.outputs_per_run = 6;
  EXPECT_NE(Compile(make(), limits).graph, nullptr);
  limits.outputs_per_run = 5;
  const Compiled refused = Compile(make(), limits);
  ASSERT_EQ(refused.violations.size(), 1U);
  EXPECT_THAT(refused.violations[0].description, HasSubstr("6 outputs after fan-out; at most 5"));
}

TEST(ItemLinks, AreCountedBeforeThereIsMemoryForThem) {
  const std::vector<ForeachKey> keys = {{"k", {"1", "2", "3"}, ""}};
  CompileLimits limits;
  limits.item_links = 6;
  EXPECT_NE(Compile(ByItem(keys, keys), limits).graph, nullptr);
  limits.item_links = 5;
  const Compiled refused = Compile(ByItem(keys, keys), limits);
  ASSERT_EQ(refused.violations.size(), 1U);
  EXPECT_THAT(refused.violations[0].description, HasSubstr("limit item_links"));
}

TEST(IntParameter, IsTheNumberThatWasGivenOrRefused) {
  PipelineSpec spec;
  spec.parameters = {{"n", ParameterType::kInt, std::nullopt}};
  EXPECT_EQ(FillParameters(spec, {{"n", "3.0"}}, false).json, R"({"n":3})");
  EXPECT_EQ(FillParameters(spec, {{"n", "9007199254740992"}}, false).json, R"({"n":9007199254740992})");
  for (const char* text : {"1e300", "-1e300", "1.5", "18446744073709551615"}) {
    EXPECT_EQ(FillParameters(spec, {{"n", text}}, false).violations.size(), 1U) << text;
  }
}

TEST(CacheKey, NamesAnInputOnlyWhereThereIsOne) {
  PipelineSpec spec;
  spec.name = "p";
  spec.steps.push_back(Step("a"));
  RunContext run;
  run.graph = std::make_shared<Graph>(std::move(spec), std::vector<StepTemplate>(1));
  run.parameters = {{"p", R"("${inputs.x}")"}};
  const std::vector<ReadyInput> inputs;
  RenderFacts facts;
  facts.run = &run;
  facts.inputs = &inputs;
  const auto key = [&](const char* text) { return Expand(text, {&facts, true}).value(); };
  EXPECT_EQ(key("${inputs.x}"), "${inputs.x}");
  EXPECT_EQ(key("$${inputs.x}"), "$${inputs.x}");
  EXPECT_EQ(key("${params.p}"), "$${inputs.x}");
  Workspace workspace;
  facts.workspace = &workspace;
  EXPECT_EQ(Expand("$${inputs.x}", {&facts, false}).value(), "${inputs.x}");
}

}  // namespace
}  // namespace orch
