// Pools and the ready queue.
#include "gmock/gmock.h"
#include "server/core/pools.h"
#include "server/core/ready_queue.h"

namespace orch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PoolsTest, TakesAndGivesTogether) {
  Pools pools;
  const PoolId cpu = pools.Intern("o/cpu");
  const PoolId free = pools.Intern("o/parallel");
  EXPECT_EQ(pools.Intern("o/cpu"), cpu);
  const SlotDemand demand{{cpu, 2000}, {free, 1}};
  EXPECT_TRUE(pools.Fits(demand)) << "without a limit everything fits";
  pools.SetCapacity(cpu, 3000);
  EXPECT_TRUE(pools.Fits(demand));
  pools.Take(demand);
  EXPECT_FALSE(pools.Fits(demand));
  EXPECT_EQ(pools.FirstFull(demand), "o/cpu");
  EXPECT_EQ(pools.used(cpu), 2000);
  pools.Give(demand);
  EXPECT_EQ(pools.used(cpu), 0);
  EXPECT_EQ(pools.FirstFull(demand), "");
}

TEST(PoolsTest, AForgottenNumberComesBackEmpty) {
  Pools pools;
  const PoolId run = pools.Intern("run/1");
  pools.SetCapacity(run, 1);
  pools.Forget(run);
  const PoolId other = pools.Intern("run/2");
  EXPECT_EQ(other, run);
  EXPECT_TRUE(pools.Fits({{other, 100}}));
}

class QueueTest : public ::testing::Test {
 protected:
  std::vector<StepIx> Pass(int64_t now = 0, int limit = 100, bool healthy = true) {
    std::vector<StepIx> out;
    more_ = queue_.Pass(
        &pools_, [&](uint32_t) { return healthy ? 1000 : 0; }, now, 30, limit,
        [&](uint32_t, const ReadyQueue::Entry& entry) { out.push_back(entry.ix); });
    return out;
  }
  PoolId Pool(const std::string& name, int64_t slots) {
    const PoolId pool = pools_.Intern(name);
    pools_.SetCapacity(pool, slots);
    return pool;
  }

  Pools pools_;
  ReadyQueue queue_;
  bool more_ = false;
};

TEST_F(QueueTest, PriorityThenAgeAcrossLines) {
  const uint32_t one = queue_.Line(0, {{Pool("a", 100), 1}});
  const uint32_t two = queue_.Line(0, {{Pool("b", 100), 1}});
  EXPECT_EQ(queue_.Line(0, {{pools_.Intern("a"), 1}}), one);
  queue_.Add(one, 0, 0, 1, 1, 0);
  queue_.Add(two, 0, 0, 1, 2, 0);
  queue_.Add(one, 7, 0, 1, 3, 0);
  queue_.Add(two, -1, 0, 1, 4, 0);
  queue_.Add(one, 0, 0, 1, 5, 0);
  EXPECT_EQ(queue_.size(), 5u);
  EXPECT_THAT(Pass(), ElementsAre(3, 1, 2, 5, 4));
  EXPECT_EQ(queue_.size(), 0u);
}

TEST_F(QueueTest, WeightComesBetweenPriorityAndAge) {
  const uint32_t line = queue_.Line(0, {});
  queue_.Add(line, 0, 1, 1, 1, 10);
  queue_.Add(line, 0, 3, 1, 2, 20);
  queue_.Add(line, 0, 3, 1, 3, 15);
  queue_.Add(line, 1, 0, 1, 4, 30);
  queue_.Add(line, 0, 3, 1, 5, 15);
  EXPECT_THAT(Pass(), ElementsAre(4, 3, 5, 2, 1));
}

TEST_F(QueueTest, TheLimitEndsAPass) {
  const uint32_t line = queue_.Line(0, {});
  for (StepIx ix = 0; ix < 5; ++ix) queue_.Add(line, 0, 0, 1, ix, 0);
  EXPECT_THAT(Pass(0, 2), ElementsAre(0, 1));
  EXPECT_TRUE(more_);
  EXPECT_THAT(Pass(0, 3), ElementsAre(2, 3, 4));
  EXPECT_FALSE(more_);
}

TEST_F(QueueTest, TheLimitOfOneOrchestratorDoesNotKeepAnotherWaiting) {
  const uint32_t line = queue_.Line(0, {});
  for (StepIx ix = 0; ix < 5; ++ix) queue_.Add(line, 0, 0, 1, ix, 0);
  queue_.Add(queue_.Line(1, {}), 0, 0, 2, 7, 0);
  EXPECT_THAT(Pass(0, 2), ElementsAre(0, 1, 7));
  EXPECT_TRUE(more_);
}

TEST_F(QueueTest, RemovedAndUnhealthyOnesDoNotStart) {
  const uint32_t line = queue_.Line(0, {});
  const ReadyQueue::Entry first = queue_.Add(line, 0, 0, 1, 1, 0);
  queue_.Add(line, 0, 0, 1, 2, 0);
  EXPECT_THAT(Pass(0, 100, false), IsEmpty());
  queue_.Remove(line, first);
  EXPECT_THAT(Pass(), ElementsAre(2));
}

TEST_F(QueueTest, SmallOnesPassAFullPoolUntilTheFirstReservesIt) {
  const PoolId cpu = Pool("cpu", 4);
  pools_.Take({{cpu, 1}});
  const uint32_t big = queue_.Line(0, {{cpu, 4}});
  const uint32_t small = queue_.Line(0, {{cpu, 1}});
  queue_.Add(big, 0, 0, 1, 1, 0);
  queue_.Add(small, 0, 0, 1, 2, 0);
  EXPECT_THAT(Pass(29), ElementsAre(2));
  queue_.Add(small, 0, 0, 1, 3, 29);
  EXPECT_THAT(Pass(30), IsEmpty()) << "it has waited long enough";
  pools_.Give({{cpu, 2}});
  EXPECT_THAT(Pass(31), ElementsAre(1));
  pools_.Give({{cpu, 4}});
  EXPECT_THAT(Pass(32), ElementsAre(3));
}

TEST_F(QueueTest, OnlyTheFullPoolIsReserved) {
  const PoolId gpu = Pool("gpu", 1);
  const PoolId cpu = Pool("cpu", 8);
  const PoolId parallel = pools_.Intern("parallel");  // no limit
  pools_.Take({{gpu, 1}});
  const uint32_t train = queue_.Line(0, {{gpu, 1}, {cpu, 1}, {parallel, 1}});
  const uint32_t plain = queue_.Line(0, {{cpu, 1}, {parallel, 1}});
  queue_.Add(train, 0, 0, 1, 1, 0);
  queue_.Add(plain, 0, 0, 1, 2, 0);
  EXPECT_THAT(Pass(100), ElementsAre(2)) << "it waits for the GPU, which this one does not need";
}

TEST_F(QueueTest, AForgottenLineIsUsedAgain) {
  const uint32_t line = queue_.Line(3, {{Pool("run/1", 1), 1}});
  queue_.Forget(line);
  EXPECT_EQ(queue_.Line(4, {}), line);
  queue_.Add(line, 0, 0, 1, 9, 0);
  EXPECT_THAT(Pass(), ElementsAre(9));
}

}  // namespace
}  // namespace orch
