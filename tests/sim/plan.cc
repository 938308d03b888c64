#include "tests/sim/plan.h"

#include <algorithm>

#include "tests/core/builders.h"

namespace orch::sim {
namespace {

using testing::PipelineBuilder;

PipelineBuilder RandomPipeline(Dice& dice, uint32_t steps) {
  PipelineBuilder builder;
  std::vector<std::string> names;
  std::vector<int> width;    // 0: empty fan-out; -1: plain
  std::vector<int> outputs;  // 0 to 2
  std::vector<int> lists;    // which plain step's list a fan-out made at run time is over; -1: it is none
  std::vector<bool> values;  // has the value output `v`
  for (uint32_t i = 0; i < steps; ++i) {
    names.push_back(absl::StrCat("s", i));
    width.push_back(dice.Percent(25) ? static_cast<int>(dice.Draw(4)) : -1);
    outputs.push_back(static_cast<int>(dice.Draw(3)));
    builder.Step(names[i]);
    values.push_back(dice.Percent(30));
    if (values[i]) builder.Out("v", true);
    lists.push_back(-1);
    std::vector<size_t> with_list;
    for (size_t from = 0; from < i; ++from) {
      if (values[from] && width[from] == -1 && lists[from] == -1) with_list.push_back(from);
    }
    if (width[i] < 0 && !with_list.empty() && dice.Percent(40)) {
      lists[i] = static_cast<int>(with_list[dice.Draw(with_list.size())]);
      builder.ForeachFrom("k", absl::StrCat(names[static_cast<size_t>(lists[i])], ".v"));
    }
    std::vector<std::string> written;
    for (int v = 0; v < width[i]; ++v) written.push_back(std::to_string(v));
    if (width[i] >= 0) builder.Foreach("k", written);
    for (int o = 0; o < outputs[i]; ++o) builder.Out(absl::StrCat("o", o));
    const size_t upstreams = i == 0 ? 0 : dice.Draw(4);
    for (size_t u = 0; u < upstreams; ++u) {
      const size_t from = dice.Draw(i);
      const int wide = width[from];
      if (outputs[from] == 0 || dice.Percent(30)) {
        builder.After({names[from]});
        continue;
      }
      const std::string output = absl::StrCat(".o", dice.Draw(static_cast<uint64_t>(outputs[from])));
      const std::string name = absl::StrCat("i", u);
      const bool early = lists[i] < 0 && dice.Percent(30);
      if (lists[from] >= 0) {
        const bool by_item = lists[i] == lists[from] && dice.Percent(70);
        builder.In(name, names[from] + (by_item ? "[item]" : "[*]") + output);
      } else if (lists[i] >= 0 && wide >= 3 && dice.Percent(50)) {
        builder.In(name, names[from] + "[item]" + output);  // their lists have at most 3 items, of the same values
      } else if (wide < 0) {
        builder.In(name, names[from] + output, early);
      } else if (width[i] > 0 && width[i] <= wide && dice.Percent(50)) {
        builder.In(name, names[from] + "[item]" + output, early);
      } else if (wide > 0 && dice.Percent(30)) {
        builder.In(name, absl::StrCat(names[from], "[", dice.Draw(static_cast<uint64_t>(wide)), "]", output), early);
      } else {
        builder.In(name, names[from] + "[*]" + output);
      }
    }
    if (dice.Percent(15)) builder.When("true");
    if (dice.Percent(30)) builder.Rule(static_cast<TriggerRule>(1 + dice.Draw(6)));
    if (dice.Percent(50)) builder.Attempts(1 + static_cast<int>(dice.Draw(4)), dice.Delay(2 * kSecond));
    if (dice.Percent(30)) builder.options().retry.jitter = 0.3;
    if (dice.Percent(15)) builder.Queue(dice.Delay(10 * kSecond));
    if (dice.Percent(15)) builder.Run(dice.Delay(10 * kSecond));
    if (dice.Percent(20)) builder.Cache();
    if (dice.Percent(20)) builder.Pool("db", 1);
    if (dice.Percent(50)) builder.Cpu(500 * static_cast<int64_t>(dice.Draw(3)));
    if (dice.Percent(20)) builder.options().hooks.on_success.command = {"hook"};
    if (dice.Percent(20)) builder.options().hooks.on_failure.command = {"hook"};
    if (dice.Percent(20)) builder.Priority(static_cast<int>(dice.Draw(5)));
  }
  if (dice.Percent(30)) builder.spec().hooks.on_success.command = {"hook"};
  if (dice.Percent(30)) builder.spec().hooks.on_failure.command = {"hook"};
  Dice more(steps + 77);
  for (StepSpec& step : builder.spec().steps) {
    if (more.Percent(10)) step.mutable_options().heartbeat_micros = more.Delay(10 * kSecond);
  }
  return builder;
}

PipelineBuilder Shaped(Shape shape, uint32_t steps) {
  PipelineBuilder builder;
  const uint32_t layer = std::max<uint32_t>(1, steps / 20);
  for (uint32_t i = 0; i < steps; ++i) {
    builder.Step(absl::StrCat("s", i));
    if (shape == Shape::kChain && i > 0) builder.After({absl::StrCat("s", i - 1)});
    if (shape == Shape::kLayers && i >= layer) builder.After({absl::StrCat("s", i - layer)});
  }
  return builder;
}

}  // namespace

Plan SwarmPlan(uint64_t seed) {
  Dice dice(seed * 0xD1342543DE82EF95ull + 1);
  Plan plan;
  plan.seed = dice.Roll();
  const auto some = [&](Fault fault, int most) {
    const bool has = dice.Percent(50);
    const int rate = static_cast<int>(dice.Draw(static_cast<uint64_t>(most))) + 1;
    plan.faults[static_cast<size_t>(fault)] = has ? rate : 0;
  };
  some(Fault::kLostAnswer, 30);
  some(Fault::kRefuseForNow, 30);
  some(Fault::kRefuseForGood, 5);
  some(Fault::kRepeat, 30);
  some(Fault::kLate, 30);
  some(Fault::kNoStart, 20);
  some(Fault::kJobFails, 40);
  some(Fault::kJobLost, 10);
  some(Fault::kEndsAtOnce, 50);
  some(Fault::kLongJob, 20);
  some(Fault::kIgnoresStop, 50);
  some(Fault::kVanish, 20);
  some(Fault::kPublishEarly, 60);
  some(Fault::kStoreFails, 10);
  some(Fault::kStoreSlow, 10);
  some(Fault::kRenderFails, 5);
  some(Fault::kResolveFails, 10);
  some(Fault::kCrash, 60);
  some(Fault::kCrashBetween, 100);
  some(Fault::kCancelRun, 40);
  some(Fault::kCancelStep, 20);
  some(Fault::kInvalidate, 40);
  some(Fault::kHealthFlap, 40);
  some(Fault::kWallJump, 30);
  some(Fault::kReboot, 30);
  if (dice.Percent(50)) {  // everything in small slices
    plan.slice = 1 + static_cast<int>(dice.Draw(4));
    plan.grants = 1 + static_cast<int>(dice.Draw(4));
  }
  if (dice.Percent(60)) plan.cpu_millis = 1000 * static_cast<int64_t>(1 + dice.Draw(4));
  if (dice.Percent(30)) plan.parallel = 1 + static_cast<int>(dice.Draw(6));
  if (dice.Percent(50)) plan.hooks_at_once = 1 + static_cast<int>(dice.Draw(3));
  plan.accept_is_start = dice.Percent(30);
  plan.reports_strangers = dice.Percent(50);
  if (dice.Percent(50)) plan.posts_per_turn = 1 + dice.Draw(8);
  plan.ring = 8 + dice.Draw(120);
  plan.turn = dice.Percent(50) ? 1 : dice.Delay(kSecond / 20);
  plan.delay = dice.Percent(30) ? kSecond / 20 : kSecond;
  const bool large = dice.Percent(4);
  const size_t runs = large ? 1 : 1 + dice.Draw(3);
  for (size_t i = 0; i < runs; ++i) {
    RunPlan& run = plan.runs.emplace_back();
    run.seed = dice.Roll();
    run.steps = static_cast<uint32_t>(1 + dice.Draw(12));
    if (large) {
      run.shape = static_cast<Shape>(dice.Draw(4));
      run.steps = static_cast<uint32_t>(100 + dice.Draw(run.shape == Shape::kRandom ? 100 : 400));
      plan.slice = 2'000;
      plan.grants = 1'000;
    }
    run.mode = static_cast<ExecutionMode>(dice.Percent(60) ? 1 : 2 + dice.Draw(2));
    run.max_parallel = dice.Percent(30) ? 1 + static_cast<int>(dice.Draw(3)) : 0;
    run.timeout_micros = dice.Percent(10) ? dice.Delay(60 * kSecond) : 0;
    run.priority = static_cast<int>(dice.Draw(3));
  }
  some(Fault::kPauseRun, 40);
  some(Fault::kSkipStep, 30);
  some(Fault::kRetryRun, 80);
  some(Fault::kRetrySteps, 50);
  some(Fault::kDeleteRun, 30);
  some(Fault::kRetryOther, 60);
  if (dice.Percent(20)) plan.rate_milli = 300 + static_cast<int64_t>(dice.Draw(10'000));
  if (dice.Percent(50)) plan.breaker_failures = static_cast<int64_t>(dice.Draw(4));
  return plan;
}

Plan PlainPlan(Shape shape, uint32_t steps, uint64_t seed) {
  Plan plan;
  plan.seed = seed;
  plan.accept_is_start = true;
  plan.parallel = 512;
  plan.ring = 16'384;
  plan.turn = 200;
  plan.runs.push_back({seed, shape, steps});
  return plan;
}

RunSubmitted Build(const RunPlan& plan, size_t number) {
  Dice dice(plan.seed);
  PipelineBuilder pipeline =
      plan.shape == Shape::kRandom ? RandomPipeline(dice, plan.steps) : Shaped(plan.shape, plan.steps);
  RunSubmitted event;
  event.header.id = absl::StrCat("run-", number);
  event.header.name = event.header.id;
  event.header.project = "default";
  event.header.pipeline = "p";
  event.header.orchestrator = "o";
  event.header.execution_mode = plan.mode;
  event.header.max_parallel = plan.max_parallel;
  event.header.timeout_micros = plan.timeout_micros;
  event.header.priority = plan.priority;
  event.graph = pipeline.Graph();
  return event;
}

std::string Plan::Describe() const {
  std::string out = "faults:";
  for (size_t f = 0; f < kFaultCount; ++f) {
    if (faults[f] > 0) absl::StrAppend(&out, " ", Name(static_cast<Fault>(f)), "=", faults[f]);
  }
  absl::StrAppend(&out, "\nslice=", slice, " grants=", grants, " cpu=", cpu_millis, " parallel=", parallel,
                  " rate=", rate_milli, " breaker=", breaker_failures, " posts=", posts_per_turn, "\nruns:");
  for (const RunPlan& run : runs) {
    absl::StrAppend(&out, " [shape ", static_cast<int>(run.shape), ", ", run.steps, " steps, mode ",
                    static_cast<int>(run.mode), ", max_parallel ", run.max_parallel, ", timeout ", run.timeout_micros,
                    "]");
  }
  return out;
}

}  // namespace orch::sim
