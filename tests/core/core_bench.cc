// How many life-cycles of a step (ready, start, end) the core alone makes in a second, and whether a step costs the
// same in small and in large runs. Not a test: it prints.
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/core/dispatcher.h"
#include "tests/core/builders.h"

namespace orch::testing {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

double ResidentMiB() {
  std::ifstream statm("/proc/self/statm");
  long pages = 0;
  statm >> pages >> pages;
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

PipelineBuilder Shape(const std::string& shape, int steps) {
  PipelineBuilder p;
  if (shape == "fan-out") {
    std::vector<std::string> items;
    for (int i = 0; i < steps; ++i) items.push_back(std::to_string(i));
    p.Step("a").Step("t").Foreach("k", std::move(items)).After({"a"});
    p.Step("z").After({"t"});
    return p;
  }
  for (int i = 0; i < steps; ++i) {
    p.Step(absl::StrCat("s", i));
    if (shape == "chain" && i > 0) p.After({absl::StrCat("s", i - 1)});
  }
  return p;
}

void Measure(const std::string& shape, int steps) {
  malloc_trim(0);
  const double before = ResidentMiB();
  const auto compile_begin = Clock::now();
  CompileLimits limits;
  limits.steps_per_run = limits.fanout_width = 2'000'000;
  auto graph = Shape(shape, steps).Compile(limits).graph;
  const double compiled = Seconds(compile_begin);
  const double with_graph = ResidentMiB();
  const double total = graph->step_count();

  Dispatcher core({});
  Now now{1'000'000, 1'700'000'000'000'000};
  (void)core.Apply(OrchestratorChanged{"o", true, {}, 512}, now);
  RunSubmitted submit;
  submit.header.id = "run";
  submit.header.orchestrator = "o";
  submit.graph = graph;
  const auto begin = Clock::now();
  (void)core.Apply(std::move(submit), now);
  double peak = ResidentMiB();
  int64_t ended = 0;
  int64_t events = 0;
  while (core.live_runs() > 0) {
    ++now.mono;
    ++now.wall;
    core.Tick(now);
    Decisions decisions = core.Take();
    events += static_cast<int64_t>(decisions.batch.events.size());
    for (const Intent& intent : decisions.intents) {
      if (intent.kind != Intent::Kind::kSubmitAttempt) continue;
      (void)core.Apply(AttemptStarted{intent.ref, "", "", now.wall}, now);
      AttemptEnd end;
      end.exit_code = 0;
      (void)core.Apply(AttemptEnded{intent.ref, std::move(end)}, now);
      if (++ended % 100'000 == 0) peak = std::max(peak, ResidentMiB());
    }
  }
  const double seconds = Seconds(begin);
  peak = std::max(peak, ResidentMiB());
  std::printf(
      "%-8s %9d steps  %8.0f k/s  %6.2f us a step  compile %6.2f us a step  graph %5.0f B  run %5.0f B a step"
      "  (%lld events)\n",
      shape.c_str(), steps, total / seconds / 1e3, seconds / total * 1e6, compiled / total * 1e6,
      (with_graph - before) * (1 << 20) / total, (peak - with_graph) * (1 << 20) / total,
      static_cast<long long>(events));
}

}  // namespace
}  // namespace orch::testing

int main() {
  for (const char* shape : {"wide", "chain", "fan-out"}) {
    for (const int steps : {1'000, 10'000, 100'000, 1'000'000}) orch::testing::Measure(shape, steps);
  }
  return 0;
}
