// Prints what a step costs in the engine alone (no API): engine_bench [folder]. Not a test.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>

#include "server/engine/engine.h"

namespace {

using namespace orch;

std::map<std::string, std::function<PipelineSpec()>> shelf;

PipelineSpec Chain(int n, bool files) {
  PipelineSpec spec;
  spec.name = "chain";
  for (int i = 0; i < n; ++i) {
    StepSpec& step = spec.steps.emplace_back();
    step.name = "s" + std::to_string(i);
    if (!files) {
      step.command = {"/bin/true"};
      if (i > 0) step.after = {"s" + std::to_string(i - 1)};
    } else {
      step.command = {"/bin/sh", "-c", i == 0 ? "echo 12345 > $ORCH_OUTPUT_X" : "cat $ORCH_INPUT_Y > $ORCH_OUTPUT_X"};
      step.outputs.push_back({"x", "", false, ""});
      if (i > 0) step.inputs.push_back({"y", InputSpec::Source::kFrom, "s" + std::to_string(i - 1) + ".x", false});
    }
  }
  return spec;
}

PipelineSpec Wide(int n, bool files) {
  PipelineSpec spec;
  spec.name = "wide";
  for (int i = 0; i < n; ++i) {
    StepSpec& step = spec.steps.emplace_back();
    step.name = "s" + std::to_string(i);
    step.command = {"/bin/true"};
    if (files && i > 0) {
      step.command = {"/bin/sh", "-c", "cat $ORCH_INPUT_Y > $ORCH_OUTPUT_X"};
      step.inputs.push_back({"y", InputSpec::Source::kFrom, "s0.x", false});
    } else if (files) {
      step.command = {"/bin/sh", "-c", "echo 12345 > $ORCH_OUTPUT_X"};
    }
    if (files) step.outputs.push_back({"x", "", false, ""});
    step.mutable_options().resources.cpu_millis = 0;
  }
  return spec;
}

void Measure(Engine* engine, const char* what, int n, std::function<PipelineSpec()> make, const char* orchestrator) {
  SubmitCommand command;
  command.spec_bytes = what + std::to_string(n);
  command.spec = make();
  command.orchestrator = orchestrator;
  shelf[command.spec_bytes] = std::move(make);
  const int64_t syncs = engine->stats().syncs;
  const auto begin = std::chrono::steady_clock::now();
  const auto submitted = engine->SubmitRun(std::move(command), 60'000'000);
  if (!submitted.ok()) {
    printf("%s: %s\n", what, submitted.status().ToString().c_str());
    return;
  }
  const auto accepted = std::chrono::steady_clock::now();
  int64_t after = 0;
  for (;;) {
    const auto run = engine->queries().FindRun("default", submitted->header.id);
    if (run.ok() && IsTerminal(run->row.state)) {
      if (run->row.state != RunState::kSucceeded) printf("%s: %s\n", what, run->row.message.c_str());
      break;
    }
    Mutex mutex;
    CondVar cv;
    bool woken = false;
    after = engine->hub().last_sequence();
    const uint64_t waiter = engine->hub().WakeAfter(0, after, [&] {
      MutexLock lock(&mutex);
      woken = true;
      cv.NotifyAll();
    });
    {
      MutexLock lock(&mutex);
      if (!woken) cv.WaitFor(&mutex, std::chrono::milliseconds(20));
    }
    engine->hub().Forget(waiter);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const EngineStats s = engine->stats();
  printf("%-22s n=%-7d %8.3f ms/step %8.0f steps/s  accept %.1f ms  syncs/step %.3f\n", what, n, seconds * 1000 / n,
         n / seconds, std::chrono::duration<double>(accepted - begin).count() * 1000,
         static_cast<double>(s.syncs - syncs) / n);
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::string pattern = std::string(argc > 1 ? argv[1] : "/var/tmp") + "/orchd-bench-XXXXXX";
  const std::string dir = mkdtemp(pattern.data());
  orch::EngineOptions options;
  options.data_dir = dir;
  options.binary_dir = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  options.parse_spec = [](const std::string& bytes) -> absl::StatusOr<orch::PipelineSpec> { return shelf[bytes](); };
  options.fake_flavor = true;
  auto engine = orch::Engine::Start(std::move(options));
  if (!engine.ok()) {
    printf("%s\n", engine.status().ToString().c_str());
    return 1;
  }
  orch::OrchestratorRow eight{"default", "eight", "local", R"({"cpus":8})", 8, 0, 0, 1};
  orch::OrchestratorRow fake{"default", "fake", "fake", "{}", 0, 0, 0, 1};
  for (const auto& row : {eight, fake}) {
    const auto put = (*engine)->PutOrchestrator(row, -1, false, 5'000'000);
    if (!put.ok()) printf("%s\n", put.status().ToString().c_str());
  }
  const int rounds = argc > 2 ? 0 : 3;
  if (argc > 2) {
    for (const int n : {1000, 10'000, 100'000}) {
      Measure(
          engine->get(), "chain fake", n, [n] { return Chain(n, false); }, "fake");
      Measure(
          engine->get(), "wide fake", n, [n] { return Wide(n, false); }, "fake");
    }
  }
  for (int round = 0; round < rounds; ++round) {
    Measure(
        engine->get(), "chain /bin/true", 1000 + round, [round] { return Chain(1000 + round, false); }, "eight");
    Measure(
        engine->get(), "wide /bin/true", 3000 + round, [round] { return Wide(3000 + round, false); }, "eight");
    Measure(
        engine->get(), "chain files", 1000 + round, [round] { return Chain(1000 + round, true); }, "eight");
    Measure(
        engine->get(), "wide files", 2000 + round, [round] { return Wide(2000 + round, true); }, "eight");
    Measure(
        engine->get(), "chain fake", 2000 + round, [round] { return Chain(2000 + round, false); }, "fake");
    Measure(
        engine->get(), "wide fake", 20000 + round, [round] { return Wide(20000 + round, false); }, "fake");
  }
  (*engine)->Shutdown();
  std::filesystem::remove_all(dir);
}
