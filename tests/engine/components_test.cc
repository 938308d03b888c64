// Orchestrators that come, change and go while runs need them, over a double of a platform.
#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/base/status.h"
#include "tests/engine/fixture.h"

namespace orch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Shut until it is opened; whoever comes to it is counted.
class Gate {
 public:
  void Shut() {
    MutexLock lock(&mutex_);
    open_ = false;
    came_ = 0;
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(&mutex_);
    ++came_;
    changed_.NotifyAll();
    while (!open_) changed_.Wait(&mutex_);
  }
  void WaitForSomebody() {
    MutexLock lock(&mutex_);
    while (came_ == 0) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ = true;
  int came_ = 0;
};

// What all backends of the double write down, and how they are.
struct Platform {
  Mutex mutex;
  std::vector<std::string> started;               // configurations
  std::vector<std::vector<std::string>> adopted;  // steps, call by call
  std::vector<std::string> released;
  size_t finished_after = 0;                                      // releases, it was asked to finish them
  std::map<std::string, std::pair<Listener*, std::string>> live;  // by step: who listens, and its key
  std::set<std::string> bad;                                      // configurations that do not start
  Gate start;
  Gate submit;  // of steps whose name begins with `slow`
  std::function<void()> remove_logs;

  // Whoever takes the job's end is on another thread.
  void End(const std::string& step) {
    std::pair<Listener*, std::string> job;
    {
      MutexLock lock(&mutex);
      job = live.at(step);
    }
    AttemptEnd end;
    end.reason = Reason::kExitCode;
    end.exit_code = 1;
    job.first->Ended(job.second, std::move(end));
  }
  bool Has(const std::string& step) {
    MutexLock lock(&mutex);
    return live.count(step) > 0;
  }
  std::vector<std::string> Started() {
    MutexLock lock(&mutex);
    return started;
  }
  std::vector<std::vector<std::string>> Adopted() {
    MutexLock lock(&mutex);
    return adopted;
  }
};

class BackendDouble : public Backend {
 public:
  BackendDouble(Platform* platform, std::string config) : platform_(platform), config_(std::move(config)) {}
  absl::Status Start(Listener* listener) override {
    listener_ = listener;
    platform_->start.Pass();
    MutexLock lock(&platform_->mutex);
    platform_->started.push_back(config_);
    return platform_->bad.count(config_) > 0 ? absl::InternalError("it does not start") : absl::OkStatus();
  }
  void Stop() override {}
  Capacity capacity() const override { return {}; }
  bool shares_files() const override { return false; }
  bool has_endpoint() const override { return true; }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName& name) override {
    return RemoteWorkspace("/double/" + name.key, "orch-launch", "unix:/double/sock");
  }
  void Submit(Unit unit) override {
    const AttemptName& name = unit.attempts.front().name;
    if (name.step.rfind("slow", 0) == 0) platform_->submit.Pass();
    {
      MutexLock lock(&platform_->mutex);
      platform_->live[name.step] = {listener_, name.key};
    }
    listener_->Accepted(name.key, "handle", name.key, "");
    listener_->Started(name.key, name.key, "double", 1);
  }
  void Cancel(absl::string_view, CancelMode) override {}
  void Release(absl::string_view key) override {
    MutexLock lock(&platform_->mutex);
    platform_->released.emplace_back(key);
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    MutexLock lock(&platform_->mutex);
    std::vector<std::string>& steps = platform_->adopted.emplace_back();
    for (const KnownAttempt& known : attempts) {
      steps.push_back(known.name.step);
      platform_->live[known.name.step] = {listener_, known.name.key};
    }
  }
  bool FinishReleases(std::chrono::milliseconds) override {
    MutexLock lock(&platform_->mutex);
    platform_->finished_after = platform_->released.size();
    return true;
  }
  int64_t LogBytes(const std::string&) override { return 100; }
  absl::Status RemoveLogs(const std::string&) override {
    if (platform_->remove_logs) platform_->remove_logs();
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("double");
  }

 private:
  Platform* const platform_;
  const std::string config_;
  Listener* listener_ = nullptr;
};

class HostDouble : public PluginHost {
 public:
  explicit HostDouble(Platform* platform) : platform_(platform) {}
  absl::StatusOr<std::string> Describe(const PluginSource&) override { return std::string("double"); }
  absl::StatusOr<FlavorInfo> Flavor(const std::string&, const PluginSource&, const std::string&) override {
    FlavorInfo info;
    info.name = "double";
    info.units = {"step"};
    info.make = [platform = platform_](const BackendContext& context) -> absl::StatusOr<std::unique_ptr<Backend>> {
      return std::unique_ptr<Backend>(std::make_unique<BackendDouble>(platform, context.config_json));
    };
    return info;
  }

 private:
  Platform* const platform_;
};

class ComponentsTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    PluginSource source;
    source.address = "double:1";
    ASSERT_TRUE(engine_->PutFlavor("double", source, false, 10'000'000).ok());
    const auto put = Put("old");
    ASSERT_TRUE(put.ok()) << put.status();
    ASSERT_THAT(platform_.Adopted(), ElementsAre(IsEmpty()));
  }
  void TearDown() override {
    platform_.start.Open();
    platform_.submit.Open();
    loop_.Open();
    EngineFixture::TearDown();
  }
  void Configure(EngineOptions* options) override { options->plugins = &host_; }

  absl::StatusOr<OrchestratorRow> Put(const std::string& config, const std::string& name = "o", int64_t version = -1,
                                      int64_t deadline = 10'000'000) {
    OrchestratorRow row;
    row.project = "default";
    row.name = name;
    row.flavor = "double";
    row.config_json = config;
    return engine_->PutOrchestrator(row, version, false, deadline);
  }
  // A step on this machine that waits for a file, and one there.
  void SubmitHereAndThere() {
    Submit(
        [gate = dir_ + "/gate"] {
          PipelineBuilder b("both");
          b.Step("here", {"/bin/sh", "-c", "until [ -e " + gate + " ]; do sleep 0.02; done"});
          b.Step("there", {"/bin/true"}, {"here"});
          b.options().orchestrator = "o";
          return std::move(b.spec());
        },
        "r");
  }
  void EndHere() { std::ofstream(dir_ + "/gate") << "go"; }
  void SubmitThere(const std::string& run, const std::string& step, const std::string& orchestrator = "o") {
    Submit(
        [step, orchestrator] {
          PipelineBuilder b("there");
          b.Step(step, {"/bin/true"});
          b.options().orchestrator = orchestrator;
          return std::move(b.spec());
        },
        run);
  }
  StepRow Step(const std::string& run, const std::string& name) {
    for (StepRow& step : Steps(run)) {
      if (step.name == name) return step;
    }
    return {};
  }
  // The loop is held up from its next event on, and nothing is committed after that until `loop_` opens.
  void HoldUpTheLoop() {
    loop_.Shut();
    engine_->hub().WakeAfter(0, engine_->hub().last_sequence(), [this] { loop_.Pass(); });
    submits_ = std::thread([this] { SubmitThere("holds-up", "s", "local"); });
    loop_.WaitForSomebody();
  }
  void LetTheLoopGoOn() {
    loop_.Open();
    submits_.join();
  }

  Platform platform_;
  HostDouble host_{&platform_};
  Gate loop_;
  std::thread submits_;
};

TEST_F(ComponentsTest, AStepIsSubmittedOnceItsOrchestratorHasChanged) {
  SubmitHereAndThere();
  platform_.start.Shut();
  absl::StatusOr<OrchestratorRow> put;
  std::thread changes([&] { put = Put("new"); });
  platform_.start.WaitForSomebody();
  EndHere();
  EXPECT_TRUE(WaitFor([&] { return Step("r", "there").reason == Reason::kSubmitRefused; }));
  EXPECT_EQ(Step("r", "there").state, StepState::kSubmitting);
  EXPECT_THAT(Step("r", "there").message, HasSubstr("is being changed"));
  platform_.start.Open();
  changes.join();
  ASSERT_TRUE(put.ok()) << put.status();
  ASSERT_TRUE(WaitFor([&] { return platform_.Has("there"); }));
  EXPECT_EQ(Step("r", "there").attempt, 1u) << "the same attempt";
  const auto health = engine_->HealthOf({"o"}, 5'000'000);
  ASSERT_TRUE(health.ok()) << health.status();
  EXPECT_EQ(health->at("o").failures, 0) << "it has refused nothing";
}

TEST_F(ComponentsTest, WhatIsPutBackIsToldWhatThereIs) {
  platform_.bad = {"bad"};
  EXPECT_FALSE(Put("bad").ok());
  EXPECT_THAT(platform_.Started(), ElementsAre("old", "bad", "old"));
  EXPECT_THAT(platform_.Adopted(), ElementsAre(IsEmpty(), IsEmpty()));
  SubmitThere("r", "s");
  EXPECT_TRUE(WaitFor([&] { return platform_.Has("s"); })) << "and it is open again";
}

TEST_F(ComponentsTest, NothingIsChangedUnderARunningAttempt) {
  SubmitThere("r", "s");
  ASSERT_TRUE(WaitFor([&] { return Step("r", "s").state == StepState::kRunning; }));
  EXPECT_EQ(ReasonOf(Put("new").status()), "ORCHESTRATOR_IN_USE");
  EXPECT_EQ(ReasonOf(engine_->DeleteOrchestrator("default", "o", {}, 10'000'000)), "ORCHESTRATOR_IN_USE");
  EXPECT_THAT(platform_.Started(), ElementsAre("old"));
}

TEST_F(ComponentsTest, WhatCannotBeNotedIsPutBack) {
  platform_.start.Shut();
  absl::StatusOr<OrchestratorRow> put;
  std::thread changes([&] { put = Put("new"); });
  platform_.start.WaitForSomebody();
  HoldUpTheLoop();
  absl::Status full;
  while (full.ok() || full.code() == absl::StatusCode::kDeadlineExceeded) full = engine_->PauseRun(1 << 30, {}, 0);
  platform_.start.Open();
  changes.join();
  EXPECT_EQ(ReasonOf(put.status()), "BUSY");
  EXPECT_THAT(platform_.Started(), ElementsAre("old", "new", "old"));
  EXPECT_THAT(platform_.Adopted(), ElementsAre(IsEmpty(), IsEmpty(), IsEmpty()));
  LetTheLoopGoOn();
}

TEST_F(ComponentsTest, WhatIsNotedTooLateIsInForceAllTheSame) {
  platform_.start.Shut();
  absl::StatusOr<OrchestratorRow> put;
  std::thread changes([&] { put = Put("new", "o", -1, 2'000'000); });
  platform_.start.WaitForSomebody();
  HoldUpTheLoop();
  platform_.start.Open();
  changes.join();
  EXPECT_EQ(put.status().code(), absl::StatusCode::kDeadlineExceeded);
  LetTheLoopGoOn();
  const auto again = Put("new", "o", 1);
  ASSERT_TRUE(again.ok()) << again.status() << ": what is there already is no conflict";
  EXPECT_EQ(again->version, 2);
  EXPECT_THAT(platform_.Started(), ElementsAre("old", "new"));
}

TEST_F(ComponentsTest, OneThatCouldNotStartWithTheDaemonIsToldOfItsAttemptsOnceItCan) {
  SubmitThere("r", "s");
  ASSERT_TRUE(WaitFor([&] { return Step("r", "s").state == StepState::kRunning; }));
  Stop();
  platform_.bad = {"old"};
  Start();
  EXPECT_EQ(Step("r", "s").state, StepState::kRunning);
  EXPECT_FALSE(Put("old").ok()) << "it is tried again, and does not start";
  platform_.bad.clear();
  ASSERT_TRUE(Put("old").ok());
  ASSERT_THAT(platform_.Adopted().back(), ElementsAre("s"));
  platform_.End("s");
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kFailed);
  EXPECT_EQ(Step("r", "s").reason, Reason::kExitCode) << "told by its platform";
}

TEST_F(ComponentsTest, NothingIsDeletedBeforeItHasLetGo) {
  ASSERT_TRUE(Put("other", "p").ok());
  SubmitThere("r", "s");
  ASSERT_TRUE(WaitFor([&] { return Step("r", "s").state == StepState::kRunning; }));
  platform_.submit.Shut();  // what is in order waits behind that
  SubmitThere("q", "slow", "p");
  platform_.submit.WaitForSomebody();
  platform_.End("s");
  ASSERT_EQ(WaitEnd("r").row.state, RunState::kFailed);
  const absl::Status early = engine_->DeleteOrchestrator("default", "o", {}, 300'000);
  EXPECT_EQ(ReasonOf(early), "ORCHESTRATOR_IN_USE") << early;
  EXPECT_THAT(early.message(), HasSubstr("cleaned up"));
  platform_.submit.Open();
  const absl::Status deleted = engine_->DeleteOrchestrator("default", "o", {}, 10'000'000);
  EXPECT_TRUE(deleted.ok()) << deleted;
  MutexLock lock(&platform_.mutex);
  EXPECT_EQ(platform_.released.size(), 1u);
  EXPECT_EQ(platform_.finished_after, 1u);
}

TEST_F(ComponentsTest, AnAnswerThatATokenIsRevokedComesAfterTheCommit) {
  ASSERT_TRUE(engine_->CreateToken("t", TokenScope::kFull, 0, 5'000'000).ok());
  HoldUpTheLoop();
  EXPECT_EQ(engine_->RevokeToken("t", {}, 0).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(engine_->RevokeToken("t", {}, 50'000).status().code(), absl::StatusCode::kDeadlineExceeded);
  LetTheLoopGoOn();
  const auto revoked = engine_->RevokeToken("t", {}, 5'000'000);
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_NE(revoked->revoked, 0);
  const auto stored = engine_->queries().ListApiTokens();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->at(0).revoked, revoked->revoked);
}

TEST_F(ComponentsTest, ARunIsNotRetriedWhileItsLogsAreRemoved) {
  SubmitThere("r", "s");
  ASSERT_TRUE(WaitFor([&] { return Step("r", "s").state == StepState::kRunning; }));
  platform_.End("s");
  ASSERT_EQ(WaitEnd("r").row.state, RunState::kFailed);
  std::thread retries;
  absl::Status retried = absl::UnknownError("not asked");
  bool early = false;
  platform_.remove_logs = [&] {
    retries = std::thread([&] {
      RetryCommand command;
      command.run = Run("r").header.key;
      retried = engine_->RetryRun(std::move(command), {}, 10'000'000);
    });
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (!early && std::chrono::steady_clock::now() < until) early = !IsTerminal(Run("r").row.state);
  };
  Retention rules;
  rules.of(Kept::kLogs).max_bytes = 1;
  const auto pruned = engine_->Prune(rules, true);
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  ASSERT_TRUE(retries.joinable());
  retries.join();
  EXPECT_FALSE(early);
  EXPECT_TRUE(retried.ok()) << retried;
}

// An input's bytes are in a store that is away.
TEST_F(ComponentsTest, AStepWaitsForTheStoreOfItsInputs) {
  const std::string store = dir_ + "-store";
  const auto clean = absl::MakeCleanup([&] {
    std::filesystem::remove_all(store);
    std::filesystem::remove_all(store + "-away");
  });
  ArtifactStoreRow row;
  row.name = "far";
  row.flavor = "local";
  row.config_json = absl::StrCat(R"({"path":")", store, R"("})");
  std::filesystem::create_directories(store);
  const auto put = engine_->PutArtifactStore(row, false, false, 10'000'000);
  ASSERT_TRUE(put.ok()) << put.status();
  StackRow stack{"far", "local", "far", "", true};
  ASSERT_TRUE(engine_->PutStack(stack, {}, 5'000'000).ok());
  Submit(
      [gate = dir_ + "/gate"] {
        PipelineBuilder b("far");
        b.Step("make", {"/bin/sh", "-c", "head -c 200000 /dev/zero > $ORCH_OUTPUT_X"}).Output("x");
        b.Step("wait", {"/bin/sh", "-c", "until [ -e " + gate + " ]; do sleep 0.02; done"}, {"make"});
        b.Step("use", {"/bin/sh", "-c", "test $(wc -c < $ORCH_INPUT_X) = 200000"}, {"wait"}).Input("x", "make.x");
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitFor([&] { return Step("r", "wait").state == StepState::kRunning; }));
  Stop();
  std::filesystem::remove_all(dir_ + "/blobs");
  std::filesystem::rename(store, store + "-away");
  Start();
  EndHere();
  EXPECT_TRUE(WaitFor([&] { return Step("r", "use").reason == Reason::kSubmitRefused; }));
  EXPECT_EQ(Step("r", "use").state, StepState::kSubmitting) << Step("r", "use").message;
  std::filesystem::rename(store + "-away", store);
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kSucceeded);
  EXPECT_EQ(Step("r", "use").attempt, 1u);
}

}  // namespace
}  // namespace orch
