#include <cstdlib>

#include "gtest/gtest.h"
#include "server/base/digest.h"
#include "tests/core/random_world.h"

namespace orch::testing {
namespace {

// ORCH_SEED=N plays that world alone; ORCH_SEEDS=N that many worlds.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(RandomWorldTest, EveryWorldEndsAndBreaksNothing) {
  const uint64_t only = FromEnvironment("ORCH_SEED", 0);
  const uint64_t worlds = FromEnvironment("ORCH_SEEDS", 1500);
  int64_t runs = 0;
  int64_t starts = 0;
  int64_t restarts = 0;
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : worlds); ++seed) {
    RandomWorld world(seed);
    const std::string broken = world.Play();
    ASSERT_TRUE(broken.empty()) << "seed=" << seed << ": " << broken;
    runs += world.runs();
    starts += world.starts();
    restarts += world.restarts();
  }
  printf("%lld runs, %lld attempts, %lld restarts\n", static_cast<long long>(runs), static_cast<long long>(starts),
         static_cast<long long>(restarts));
  if (only == 0) {
    EXPECT_GE(runs, static_cast<int64_t>(worlds));
    EXPECT_GT(restarts, 0);
  }
}

TEST(RandomWorldTest, TheSameSeedGivesTheSameTrace) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    RandomWorld one(seed);
    RandomWorld two(seed);
    (void)one.Play();
    (void)two.Play();
    ASSERT_EQ(Hex(one.trace()), Hex(two.trace())) << "seed=" << seed;
  }
}

}  // namespace
}  // namespace orch::testing
