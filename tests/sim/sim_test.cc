#include "gtest/gtest.h"
#include "server/base/log.h"
#include "tests/sim/seeds.h"
#include "tests/sim/shrink.h"
#include "tests/sim/world.h"

namespace orch::sim {
namespace {

class SimTest : public ::testing::Test {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kError); }
};

TEST_F(SimTest, TheSameSeedGivesTheSameEventsByteByByte) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    World one(SwarmPlan(seed));
    World two(SwarmPlan(seed));
    ASSERT_EQ(one.Play(), "") << "seed=" << seed;
    (void)two.Play();
    ASSERT_FALSE(one.Log().empty());
    ASSERT_EQ(one.Log(), two.Log()) << "seed=" << seed;
  }
}

TEST_F(SimTest, OtherSeedsGiveOtherWorlds) {
  World one(SwarmPlan(1));
  World two(SwarmPlan(2));
  (void)one.Play();
  (void)two.Play();
  EXPECT_NE(one.Log(), two.Log());
}

TEST_F(SimTest, ListedSeedsBreakNothing) {
  for (const uint64_t seed : ListedSeeds()) EXPECT_EQ(World(SwarmPlan(seed)).Play(), "") << "seed=" << seed;
}

TEST_F(SimTest, LargeWorldsEndWhole) {
  for (const Shape shape : {Shape::kChain, Shape::kWide, Shape::kLayers}) {
    World world(PlainPlan(shape, 2'000, 7));
    ASSERT_EQ(world.Play(), "");
    EXPECT_EQ(world.figures().life_cycles, 2'000);
    EXPECT_EQ(world.figures().attempts, 2'000);
  }
}

TEST_F(SimTest, TheSwarmHasCrashesRetriesAndLargeRuns) {
  World::Figures sum;
  int64_t largest = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    World world(SwarmPlan(seed));
    ASSERT_EQ(world.Play(), "") << "seed=" << seed;
    sum.restarts += world.figures().restarts;
    sum.attempts += world.figures().attempts;
    sum.life_cycles += world.figures().life_cycles;
    largest = std::max(largest, world.figures().life_cycles);
  }
  EXPECT_GT(sum.restarts, 100);
  EXPECT_GT(sum.attempts, 1000);
  EXPECT_GT(largest, 100);
}

TEST(ShrinkTest, WhatHasNoPartInTheFailureGoes) {
  const auto play = [](const Plan& plan) -> std::string {
    const bool breaks = plan.faults[static_cast<size_t>(Fault::kJobFails)] > 0 && plan.runs[0].steps >= 3;
    return breaks ? "broken" : "";
  };
  Plan plan = PlainPlan(Shape::kRandom, 12, 1);
  plan.faults.fill(10);
  plan.runs.push_back(plan.runs[0]);
  const Plan small = Shrink(plan, play, 20'000);
  EXPECT_EQ(small.runs.size(), 1u);
  EXPECT_EQ(small.runs[0].steps, 3u);
  for (size_t f = 0; f < kFaultCount; ++f) {
    EXPECT_EQ(small.faults[f] > 0, f == static_cast<size_t>(Fault::kJobFails)) << Name(static_cast<Fault>(f));
  }
}

}  // namespace
}  // namespace orch::sim
