#include "tests/sim/shrink.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace orch::sim {
namespace {

// With a part of the plan gone, chance falls otherwise: the failure may need another seed.
constexpr uint64_t kSeedsEach = 12;

std::vector<Plan> Smaller(const Plan& plan) {
  std::vector<Plan> out;
  for (size_t i = 0; i < plan.runs.size() && plan.runs.size() > 1; ++i) {
    Plan& less = out.emplace_back(plan);
    less.runs.erase(less.runs.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    const uint32_t steps = plan.runs[i].steps;
    if (steps > 3) out.emplace_back(plan).runs[i].steps = steps / 2;
    if (steps > 1) out.emplace_back(plan).runs[i].steps = steps - 1;
  }
  // First many faults at once, then one by one.
  for (size_t width = kFaultCount / 2; width > 1; width /= 2) {
    for (size_t first = 0; first < kFaultCount; first += width) {
      Plan& less = out.emplace_back(plan);
      for (size_t f = first; f < std::min(first + width, kFaultCount); ++f) less.faults[f] = 0;
      if (less.faults == plan.faults) out.pop_back();
    }
  }
  for (size_t f = 0; f < kFaultCount; ++f) {
    if (plan.faults[f] > 0) out.emplace_back(plan).faults[f] = 0;
  }
  const Plan plain;
  if (plan.slice != plain.slice || plan.grants != plain.grants || plan.posts_per_turn != plain.posts_per_turn) {
    Plan& less = out.emplace_back(plan);
    less.slice = plain.slice;
    less.grants = plain.grants;
    less.posts_per_turn = plain.posts_per_turn;
  }
  if (plan.cpu_millis > 0) out.emplace_back(plan).cpu_millis = 0;
  if (plan.parallel > 0) out.emplace_back(plan).parallel = 0;
  if (plan.rate_milli > 0) out.emplace_back(plan).rate_milli = 0;
  if (plan.breaker_failures > 0) out.emplace_back(plan).breaker_failures = 0;
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    if (plan.runs[i].max_parallel > 0) out.emplace_back(plan).runs[i].max_parallel = 0;
    if (plan.runs[i].timeout_micros > 0) out.emplace_back(plan).runs[i].timeout_micros = 0;
  }
  return out;
}

}  // namespace

Plan Shrink(Plan failing, const PlayPlan& play, int most) {
  for (bool found = true; found && most > 0;) {
    found = false;
    for (Plan& less : Smaller(failing)) {
      for (uint64_t n = 0; n < kSeedsEach && most-- > 0; ++n) {
        if (play(less).empty()) {
          ++less.seed;
          continue;
        }
        failing = std::move(less);
        found = true;
        break;
      }
      if (found || most <= 0) break;
    }
  }
  return failing;
}

}  // namespace orch::sim
