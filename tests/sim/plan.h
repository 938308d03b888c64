// What a world will be: its faults, limits and runs, all from one seed. Plain data, so that a failing plan can be made
// smaller and played again.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/core/dispatcher.h"
#include "tests/sim/fate.h"

namespace orch::sim {

enum class Shape : uint8_t { kRandom, kChain, kWide, kLayers };

struct RunPlan {
  uint64_t seed = 0;
  Shape shape = Shape::kRandom;
  uint32_t steps = 0;  // before fan-out
  ExecutionMode mode = ExecutionMode::kContinueOnFailure;
  int max_parallel = 0;
  int64_t timeout_micros = 0;
  int priority = 0;
};

struct Plan {
  uint64_t seed = 0;  // of chance, while it plays
  Faults faults{};
  int slice = 2'000;
  int grants = 1'000;
  int64_t cpu_millis = 0;  // 0: not limited
  int parallel = 0;        // of the orchestrator; 0: not limited
  int64_t rate_milli = 0;  // submissions a second, in thousandths; 0: not limited
  int64_t breaker_failures = 5;
  int hooks_at_once = 16;
  bool accept_is_start = false;
  bool reports_strangers = true;  // the platform tells of ended jobs that nobody asked about
  size_t posts_per_turn = 512;
  size_t ring = 64;         // of the hub
  int64_t turn = 1;         // the longest a turn waits for company: what a commit before it takes
  int64_t delay = kSecond;  // the longest of what the platform and the client do
  std::vector<RunPlan> runs;

  std::string Describe() const;
};

// Of a few small runs, sometimes of a larger one.
Plan SwarmPlan(uint64_t seed);
// Nothing goes wrong.
Plan PlainPlan(Shape shape, uint32_t steps, uint64_t seed);

// The run as a client submits it; `number` makes its id.
RunSubmitted Build(const RunPlan& plan, size_t number);

}  // namespace orch::sim
