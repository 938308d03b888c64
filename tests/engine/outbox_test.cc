// The outbox over doubles: what it makes of reports about attempts that are over.
#include "server/engine/outbox.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace orch {
namespace {

// Does all work at once.
class ExecutorDouble : public Executor {
 public:
  void InOrder(int64_t, std::function<void()> work) override { work(); }
  bool Here(absl::FunctionRef<void()>) override { return false; }
  void Aside(int64_t, std::function<void()> work) override { work(); }
  void Stop() override {}
};

class WorkshopDouble : public Workshop {
 public:
  Rendered Render(const RunContext&, const Intent& intent, const std::string&, Backend*) override {
    Rendered out;
    out.unit.key = intent.key;
    out.unit.attempts.emplace_back().name.key = intent.key;
    return out;
  }
  OutputsStored Store(const RunContext&, const Intent& intent) override { return {intent.ref, {}, {}, "", false}; }
  StepsResolved Resolve(const RunContext&, const std::vector<Intent>&) override { return {}; }
  FanoutResolved ResolveFanout(const RunContext&, const Intent&) override { return {}; }
  bool IsQuick(const RunContext&, const Intent&) override { return false; }
  void Discard(const std::string&) override {}
};

// Writes down what it is told.
class BackendDouble : public Backend {
 public:
  BackendDouble(Listener** listener, std::vector<std::string>* calls) : listener_(listener), calls_(calls) {}
  absl::Status Start(Listener* listener) override {
    *listener_ = listener;
    return absl::OkStatus();
  }
  void Stop() override {}
  Capacity capacity() const override { return {}; }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName&) override { return Workspace(); }
  void Submit(Unit unit) override { calls_->push_back("submit " + unit.key); }
  void Cancel(absl::string_view key, CancelMode) override { calls_->push_back("cancel " + std::string(key)); }
  void Release(absl::string_view key) override { calls_->push_back("release " + std::string(key)); }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    for (const KnownAttempt& attempt : attempts) calls_->push_back("adopt " + attempt.name.key);
  }
  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("double");
  }

 private:
  Listener** const listener_;
  std::vector<std::string>* const calls_;
};

class OutboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(outbox_.AddBackend("o", std::make_unique<BackendDouble>(&listener_, &calls_)).ok());
    PipelineSpec spec;
    spec.steps.emplace_back().name = "s";
    auto run = std::make_shared<RunContext>();
    run->header.key = 1;
    run->graph = std::make_shared<const Graph>(std::move(spec), std::vector<StepTemplate>(1));
    outbox_.AddRun(std::move(run));
  }
  void Do(Intent::Kind kind, const std::string& key) {
    std::vector<Intent> intents(1);
    intents[0].kind = kind;
    intents[0].ref = {1, 0, 1};
    intents[0].key = key;
    intents[0].orchestrator = "o";
    outbox_.Start(std::move(intents));
  }
  std::vector<std::string> Calls() { return std::exchange(calls_, {}); }

  Listener* listener_ = nullptr;
  std::vector<std::string> calls_;
  ExecutorDouble executor_;
  WorkshopDouble workshop_;
  Mailbox mailbox_{100};
  Outbox outbox_{&workshop_, &executor_, &mailbox_};
};

using Strings = std::vector<std::string>;

TEST_F(OutboxTest, WhatIsSaidOfALiveAttemptIsAnEvent) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  EXPECT_EQ(Calls(), Strings{"submit k"});
  listener_->Started("k", "", "", 0);
  listener_->Ended("k", {});
  listener_->Lost("k", "");
  EXPECT_EQ(mailbox_.depth(), 3u);
  EXPECT_TRUE(Calls().empty());
}

// Its end was committed before a crash, and the release was lost with it.
TEST_F(OutboxTest, AStrangerThatHasEndedIsReleasedHoweverItEnded) {
  listener_->Ended("old", {});
  EXPECT_EQ(Calls(), Strings{"release old"});
  listener_->Lost("lost", "");
  EXPECT_EQ(Calls(), Strings{"release lost"});
  listener_->Started("old", "", "", 0);
  EXPECT_EQ(mailbox_.depth(), 0u);
}

TEST_F(OutboxTest, AReleasedAttemptIsAStranger) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  Do(Intent::Kind::kReleaseAttempt, "k");
  EXPECT_FALSE(outbox_.FindAttempt("k").has_value());
  EXPECT_FALSE(outbox_.HasAttempts("o"));
  EXPECT_EQ(Calls(), (Strings{"submit k", "release k"}));
}

TEST_F(OutboxTest, AnUnknownAnswerIsAskedAfter) {
  Do(Intent::Kind::kSubmitAttempt, "k");
  listener_->Unknown("k", "no answer");
  EXPECT_EQ(Calls(), (Strings{"submit k", "adopt k"}));
  EXPECT_EQ(mailbox_.depth(), 0u);
}

}  // namespace
}  // namespace orch
