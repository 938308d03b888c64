// The turn alone, over a writer that is a double: what it commits, when, and in which order it tells of it.
#include "server/engine/turn.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/core/compile.h"

namespace orch {
namespace {

constexpr int64_t kSecond = 1'000'000;

class SetClock : public Clock {
 public:
  orch::Now Now() const override { return now; }
  orch::Now now{1'000 * kSecond, 1'700'000'000 * kSecond};
};

// Writes down in which order things happen.
class DoubleWriter : public store::Writer {
 public:
  explicit DoubleWriter(std::vector<std::string>* order) : order_(order) {}
  const store::Meta& meta() const override { return meta_; }
  absl::Status Commit(Batch* batch) override {
    if (fails) return absl::DataLossError("the disk is gone");
    order_->push_back("commit");
    for (const EventRow& event : batch->events) events.push_back(event);
    return absl::OkStatus();
  }
  bool LowOnSpace() override { return false; }
  void MaybeCheckpoint(bool) override {}
  absl::StatusOr<std::vector<RunKey>> LiveRunKeys() override { return std::vector<RunKey>(); }
  absl::StatusOr<store::LiveRun> LoadRun(RunKey) override { return absl::UnimplementedError("double"); }
  absl::StatusOr<std::vector<AttemptRow>> PendingReleases() override { return std::vector<AttemptRow>(); }
  Stats stats() const override { return {}; }

  bool fails = false;
  std::vector<EventRow> events;

 private:
  std::vector<std::string>* const order_;
  store::Meta meta_;
};

class TurnTest : public ::testing::Test, private TurnSink {
 protected:
  // One step, submitted on orchestrator `o`, with a time-out of the run.
  std::shared_ptr<Receipt> Submit(int64_t timeout_micros) {
    PipelineSpec spec;
    spec.name = "p";
    spec.steps.emplace_back().name = "s";
    spec.steps.back().command = {"true"};
    spec.steps.back().mutable_options().retry.max_attempts = 2;
    spec.steps.back().mutable_options().retry.initial_micros = 3'600 * kSecond;
    spec.steps.back().mutable_options().retry.max_micros = 3'600 * kSecond;
    RunSubmitted event;
    event.header.id = "r";
    event.header.orchestrator = "o";
    event.header.timeout_micros = timeout_micros;
    event.graph = Compile(std::move(spec), {}).graph;
    (void)core_.Apply(OrchestratorChanged{"o", true, {}, 0}, clock_.now);
    Post post;
    post.run = std::make_shared<RunContext>();
    post.event = std::move(event);
    post.receipt = std::make_shared<Receipt>();
    const std::shared_ptr<Receipt> receipt = post.receipt;
    Play(std::move(post));
    return receipt;
  }
  void Play(Post post) {
    std::deque<Post> posts;
    posts.push_back(std::move(post));
    status_ = turn_.Play(std::move(posts), clock_.now);
  }
  void End(bool well) {
    AttemptEnd end;
    if (!well) end.reason = Reason::kExitCode;
    Post post;
    post.event = AttemptEnded{{1, 0, 1}, std::move(end)};
    post.lazy = true;
    Play(std::move(post));
  }
  // Time passes and nobody posts anything.
  void PassTo(int64_t mono) {
    while (turn_.NextDeadline() <= mono) {
      clock_.now.wall += std::max<int64_t>(0, turn_.NextDeadline() - clock_.now.mono);
      clock_.now.mono = std::max(clock_.now.mono, turn_.NextDeadline());
      status_ = turn_.Play({}, clock_.now);
    }
  }

  SetClock clock_;
  std::vector<std::string> order_;
  DoubleWriter writer_{&order_};
  Dispatcher core_{CorePolicy()};
  Turn turn_{&clock_, &core_, &writer_, this};
  absl::Status status_;

 private:
  void AddRun(std::shared_ptr<const RunContext>) override {}
  void Publish(const Batch&) override { order_.push_back("publish"); }
  void Start(std::vector<Intent> intents) override {
    if (!intents.empty()) order_.push_back("start");
  }
  void ReplaceGraph(RunKey, std::shared_ptr<const Graph>) override { order_.push_back("graph"); }
  void RemoveRun(const RunRow&) override { order_.push_back("remove"); }
};

TEST_F(TurnTest, CommitsThenPublishesThenActsThenAnswers) {
  const auto receipt = Submit(0);
  EXPECT_EQ(order_, (std::vector<std::string>{"commit", "publish", "start"}));
  EXPECT_TRUE(receipt->Wait(0).ok());
  EXPECT_EQ(receipt->number(), 1);
}

TEST_F(TurnTest, AFailedCommitIsSeenByNobody) {
  writer_.fails = true;
  const auto receipt = Submit(0);
  EXPECT_EQ(status_.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(order_.empty());
  EXPECT_FALSE(receipt->Wait(0).ok());
}

TEST_F(TurnTest, AStartWaitsForCompanyButNotForLong) {
  (void)Submit(0);
  order_.clear();
  Post post;
  post.event = AttemptStarted{{1, 0, 1}, "", "", 0};
  post.lazy = true;
  Play(std::move(post));
  EXPECT_TRUE(order_.empty());
  PassTo(clock_.now.mono + kLazyMicros - 1);
  EXPECT_TRUE(order_.empty());
  PassTo(clock_.now.mono + kLazyMicros);
  EXPECT_EQ(order_, (std::vector<std::string>{"commit", "publish"}));
}

// The time-out of a run whose only step waits for its retry: no platform has anything to do with it.
TEST_F(TurnTest, WhatTimeAloneDecidesIsCommitted) {
  (void)Submit(60 * kSecond);
  End(false);
  PassTo(clock_.now.mono + 61 * kSecond);
  ASSERT_FALSE(writer_.events.empty());
  EXPECT_EQ(writer_.events.back().type, EventType::kRunStateChanged);
  EXPECT_EQ(static_cast<RunState>(writer_.events.back().state), RunState::kFailed);
  EXPECT_EQ(order_.back(), "remove");
  EXPECT_TRUE(turn_.idle());
}

// A READY that lasts is shown after a while, though nothing else happens.
TEST_F(TurnTest, AStepThatWaitsIsShown) {
  (void)core_.Apply(OrchestratorHealthChanged{"o", false, "it is away"}, clock_.now);
  (void)Submit(0);
  PassTo(clock_.now.mono + kSecond);
  ASSERT_FALSE(writer_.events.empty());
  EXPECT_EQ(writer_.events.back().type, EventType::kStepStateChanged);
  EXPECT_EQ(static_cast<StepState>(writer_.events.back().state), StepState::kReady);
}

}  // namespace
}  // namespace orch
