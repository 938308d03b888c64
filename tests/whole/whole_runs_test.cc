// Runs that are on a platform as a whole: the daemon's side, with real launchers, on a double of such a platform.
#include "server/engine/whole_runs.h"

#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "server/base/status.h"
#include "server/core/compile.h"
#include "server/http/http_server.h"
#include "server/http/router.h"
#include "server/rpc/api.h"
#include "tests/engine/fixture.h"
#include "tests/whole/pipelines_double.h"

namespace orch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> Sh(std::string script) { return {"/bin/sh", "-c", std::move(script)}; }

class WholeRunsTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    PluginSource source;
    source.address = "double:1";
    ASSERT_TRUE(engine_->PutFlavor("pipelines", source, false, 10'000'000).ok());
    OrchestratorRow row;
    row.project = "default";
    row.name = "pipelines";
    row.flavor = "pipelines";
    const auto put = engine_->PutOrchestrator(row, 0, false, 10'000'000);
    ASSERT_TRUE(put.ok()) << put.status();
  }
  void TearDown() override {
    EngineFixture::TearDown();
    platform_.reset();
  }
  void Configure(EngineOptions* options) override {
    const std::string endpoint = "unix:" + dir_ + "/http.sock";
    const std::string launcher = options->binary_dir + "/orch-launch";
    std::filesystem::create_directory(dir_ + "/work");
    if (platform_ == nullptr) platform_ = std::make_unique<PipelinesDouble>(dir_ + "/work", launcher, endpoint);
    host_ = std::make_unique<PipelinesHost>(platform_.get(), dir_ + "/work", launcher, endpoint);
    options->plugins = host_.get();
    options->limits.place_patience_seconds = place_patience_seconds_;
  }
  void Started() override {
    rpc::ApiOptions api;
    api.engine = engine_.get();
    api.token = "the owner's";
    api.data_dir = dir_;
    api_ = std::make_unique<rpc::Api>(std::move(api));
    router_ = std::make_unique<http::Router>(api_.get());
    http::HttpServer::Options options;
    options.unix_path = dir_ + "/http.sock";
    auto server = http::HttpServer::Start(router_.get(), options);
    ASSERT_TRUE(server.ok()) << server.status();
    http_ = *std::move(server);
    router_->SetServing(true);
  }
  void Stopping() override {
    http_->Stop();
    api_->pool().Stop();
    http_.reset();
    router_.reset();
  }
  void Restart() {
    Stop();
    api_.reset();
    Start();
  }
  void SubmitWhole(std::function<PipelineSpec()> make, const std::string& name,
                   std::optional<ExecutionMode> mode = std::nullopt) {
    SubmitCommand command;
    command.spec = make();
    command.spec_bytes = shelf_.Put(std::move(make));
    command.name = name;
    command.orchestrator = "pipelines";
    command.execution_mode = mode;
    const auto run = engine_->SubmitRun(std::move(command), 10'000'000);
    ASSERT_TRUE(run.ok()) << run.status();
  }
  std::map<std::string, StepState> States(const std::string& run) {
    std::map<std::string, StepState> out;
    for (const StepRow& step : Steps(run)) out[step.name] = step.state;
    return out;
  }
  bool WaitRunning(const std::string& run, StepIx ix) {
    return WaitFor([&] {
      const auto step = engine_->queries().GetStep(Run(run).header.key, ix);
      return step.ok() && step->has_value() && (*step)->state == StepState::kRunning;
    });
  }
  std::vector<std::string> Lines(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }

  // A run of one step that writes down its attempt and goes on until it is told to end, which the second one is not.
  void SubmitLong(std::optional<int> max_attempts = std::nullopt) {
    const std::string script = "echo ${attempt} >> " + dir_ + "/marks; test ${attempt} = 2 || exec sleep 600";
    SubmitWhole(
        [script, max_attempts] {
          PipelineBuilder b("long");
          b.Step("a", Sh(script));
          if (max_attempts.has_value()) b.options().retry.max_attempts = *max_attempts;
          b.options().retry.initial_micros = 10'000;
          b.options().retry.on_failed = false;  // but on_lost
          return std::move(b.spec());
        },
        "r");
    ASSERT_TRUE(WaitRunning("r", 0));
    ASSERT_TRUE(WaitFor([&] { return Lines(dir_ + "/marks").size() == 1; }));
  }
  // Its launcher has told how it ended.
  bool WaitTold() {
    return WaitFor([&] {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ + "/deliveries")) {
        if (entry.path().filename() == "end.json") return true;
      }
      return false;
    });
  }

  int64_t place_patience_seconds_ = 600;
  std::unique_ptr<PipelinesDouble> platform_;
  std::unique_ptr<PipelinesHost> host_;
  std::unique_ptr<rpc::Api> api_;
  std::unique_ptr<http::Router> router_;
  std::unique_ptr<http::HttpServer> http_;
};

TEST_F(WholeRunsTest, OneNativeRunAndTheDataGoesAlongItsEdges) {
  SubmitWhole(
      [] {
        PipelineBuilder b("data");
        b.Step("gen", Sh("printf hello > $ORCH_OUTPUT_TEXT")).Output("text");
        b.Step("each", Sh("printf '%s-%s' \"$(cat $ORCH_INPUT_TEXT)\" ${item.m} > ${outputs.out}"))
            .Foreach("m", {"\"x\"", "\"y\""})
            .Input("text", "gen.text")
            .Output("out");
        b.Step("all", Sh("cat $ORCH_INPUT_PARTS/0* > $ORCH_OUTPUT_OUT")).Input("parts", "each[*].out").Output("out");
        return std::move(b.spec());
      },
      "r");
  const store::RunRecord run = WaitEnd("r", 60);
  ASSERT_EQ(run.row.state, RunState::kSucceeded) << run.row.message;
  EXPECT_EQ(Text("r", "all.out"), "hello-xhello-y");
  const auto native = platform_->runs();
  ASSERT_THAT(native, SizeIs(1));
  ASSERT_THAT(native[0].outline.tasks, SizeIs(4));
  EXPECT_THAT(native[0].outline.tasks[0].after, IsEmpty());
  EXPECT_THAT(native[0].outline.tasks[1].after, ElementsAre(0));
  EXPECT_THAT(native[0].outline.tasks[3].after, ElementsAre(1, 2));
  EXPECT_EQ(native[0].outline.tasks[2].step, "each[1]");
}

TEST_F(WholeRunsTest, AFailedStepIsTriedAgainInItsTaskAndItsDependantsAreSkippedInTheirs) {
  const std::string marks = dir_ + "/marks";
  SubmitWhole(
      [marks] {
        PipelineBuilder b("retry");
        b.Step("flaky", Sh("echo ${attempt} >> " + marks + "; test ${attempt} = 2"));
        b.options().retry.max_attempts = 3;
        b.options().retry.initial_micros = 10'000;
        b.Step("bad", Sh("exit 7"));
        b.Step("behind", {"/bin/true"}, {"bad"}).Step("good", {"/bin/true"}, {"flaky"});
        b.Step("always", {"/bin/true"}, {"bad"});
        b.options().trigger_rule = TriggerRule::kAllDone;
        return std::move(b.spec());
      },
      "r");
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kFailed);
  EXPECT_THAT(Lines(marks), ElementsAre("1", "2"));
  const auto states = States("r");
  EXPECT_EQ(states.at("flaky"), StepState::kSucceeded);
  EXPECT_EQ(states.at("good"), StepState::kSucceeded);
  EXPECT_EQ(states.at("bad"), StepState::kFailed);
  EXPECT_EQ(states.at("behind"), StepState::kSkipped);
  EXPECT_EQ(states.at("always"), StepState::kSucceeded);
  EXPECT_THAT(platform_->runs(), SizeIs(1));
}

TEST_F(WholeRunsTest, ACancelledRunLeavesNothingRunning) {
  const std::string marks = dir_ + "/marks";
  SubmitWhole(
      [marks] {
        PipelineBuilder b("long");
        b.Step("a", Sh("trap 'echo stopped >> " + marks + "; exit 1' TERM; while :; do sleep 0.1; done"));
        b.Step("b", {"/bin/true"}, {"a"});
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitRunning("r", 0));
  ASSERT_TRUE(engine_->CancelRun(Run("r").header.key, {}, false, {}, 10'000'000).ok());
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kCancelled);
  EXPECT_THAT(Lines(marks), ElementsAre("stopped"));
  EXPECT_TRUE(WaitFor([&] {
    for (const auto& run : platform_->runs()) {
      if (!run.ended) return false;
    }
    return true;
  }));
}

TEST_F(WholeRunsTest, ATaskThatIsLostIsMadeAgainInASecondNativeRunOfWhatIsLeft) {
  const std::string marks = dir_ + "/marks";
  SubmitWhole(
      [marks] {
        PipelineBuilder b("lost");
        b.Step("a", {"/bin/true"});
        b.Step("b",
               Sh("echo ${attempt} >> " + marks + "; test ${attempt} = 2 || while kill -0 $PPID; do sleep 0.05; done"),
               {"a"});
        b.options().retry.max_attempts = 2;
        b.options().retry.initial_micros = 10'000;
        b.Step("c", {"/bin/true"}, {"b"});
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitRunning("r", 1));
  ASSERT_TRUE(WaitFor([&] { return Lines(marks).size() == 1; }));
  platform_->Kill(Run("r").header.id, 1);
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kSucceeded);
  EXPECT_THAT(Lines(marks), ElementsAre("1", "2"));
  const auto native = platform_->runs();
  ASSERT_THAT(native, SizeIs(2));
  EXPECT_THAT(native[1].outline.tasks, SizeIs(2)) << "what had succeeded is not in it";
}

TEST_F(WholeRunsTest, AStepWhosePlaceSomebodyElseEndsIsWhatItsPlatformSaysOfIt) {
  SubmitLong();
  platform_->Evict(Run("r").header.id, 0);
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kFailed);
  const StepRow step = Steps("r").at(0);
  EXPECT_EQ(step.reason, Reason::kLost);
  EXPECT_EQ(step.message, "its launcher ended without a word") << "the platform's words";
}

TEST_F(WholeRunsTest, AndIsTriedAgainAsOneThatWasLost) {
  SubmitLong(2);
  platform_->Evict(Run("r").header.id, 0);
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kSucceeded);
  EXPECT_THAT(Lines(dir_ + "/marks"), ElementsAre("1", "2"));
}

TEST_F(WholeRunsTest, WhatItsLauncherToldBeforeTheDaemonEndedIsCompletedByThePlatformInTheNextLife) {
  SubmitLong();
  platform_->Mute(true);
  platform_->Evict(Run("r").header.id, 0);
  ASSERT_TRUE(WaitTold());
  EXPECT_EQ(Steps("r").at(0).state, StepState::kRunning) << "nobody knows who stopped it";
  Restart();
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kFailed);
  EXPECT_EQ(Steps("r").at(0).reason, Reason::kLost);
}

TEST_F(WholeRunsTest, OfAPlatformThatSaysNothingForTooLongItIsWhatItsLauncherSays) {
  place_patience_seconds_ = 1;
  Restart();
  SubmitLong();
  platform_->Mute(true);
  platform_->Evict(Run("r").header.id, 0);
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kFailed);
  EXPECT_EQ(Steps("r").at(0).reason, Reason::kSignaled);
}

TEST_F(WholeRunsTest, ACancelDoesNotWaitForWhatThePlatformSays) {
  SubmitLong();
  platform_->Mute(true);
  platform_->Evict(Run("r").header.id, 0);
  ASSERT_TRUE(WaitTold());
  ASSERT_TRUE(engine_->CancelRun(Run("r").header.key, {}, false, {}, 10'000'000).ok());
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kCancelled);
}

TEST_F(WholeRunsTest, AStopThatAnEarlierLifeOfTheDaemonAskedForIsNobodyElses) {
  const std::string marks = dir_ + "/marks";
  const std::string go = dir_ + "/go";
  SubmitWhole(
      [marks, go] {
        PipelineBuilder b("stop");
        b.Step("a", Sh("trap 'echo told >> " + marks + "; until test -e " + go +
                       "; do sleep 0.02; done; exit 1' TERM; while :; do sleep 0.1; done"));
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitRunning("r", 0));
  platform_->Mute(true);
  ASSERT_TRUE(engine_->CancelRun(Run("r").header.key, {}, false, {}, 10'000'000).ok());
  ASSERT_TRUE(WaitFor([&] { return !Lines(marks).empty(); }));
  Restart();
  std::ofstream(go).flush();
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kCancelled);
}

TEST_F(WholeRunsTest, ItGoesOnOverAnotherDaemon) {
  const std::string marks = dir_ + "/marks";
  const std::string go = dir_ + "/go";
  SubmitWhole(
      [marks, go] {
        PipelineBuilder b("on");
        b.Step("a", Sh("echo a >> " + marks + "; while ! test -e " + go + "; do sleep 0.02; done"));
        b.Step("b", Sh("echo b >> " + marks), {"a"});
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitRunning("r", 0));
  Restart();
  std::ofstream(go).flush();
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kSucceeded);
  EXPECT_THAT(Lines(marks), ElementsAre("a", "b"));
  EXPECT_THAT(platform_->runs(), SizeIs(1));
}

TEST_F(WholeRunsTest, ATaskSTokenAsksForItsAttemptsAndDoesNothingElse) {
  SubmitWhole(
      [] {
        PipelineBuilder b("token");
        b.Step("a", {"/bin/true"});
        return std::move(b.spec());
      },
      "r");
  EXPECT_EQ(WaitEnd("r", 60).row.state, RunState::kSucceeded);
  const std::string bearer = "Bearer " + platform_->runs().at(0).outline.tasks.at(0).token;
  const auto identity = api_->guard().Identify(rpc::Transport::kTcp, bearer);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->kind, rpc::Identity::Kind::kTask);
  EXPECT_EQ(ReasonOf(api_->guard().Permit(*identity, "x", {})), "STEP_TOKEN");
  http::Request request;
  request.method = "POST";
  request.transport = rpc::Transport::kTcp;
  request.headers.emplace("authorization", bearer);
  request.headers.emplace("content-type", "application/json");
  request.body = "{\"launcher\": \"l@p\"}";
  const auto ask = [&](const std::string& path) {
    request.path = path;
    return router_->Serve(request);
  };
  EXPECT_THAT(ask("/attempt/v1/next").body, HasSubstr("\"state\":\"SUCCEEDED\""));
  request.body = "{}";
  for (const char* path : {"/attempt/v1/begin", "/attempt/v1/alive", "/attempt/v1/end", "/orch.v1.RunService/ListRuns",
                           "/runs", "/metrics"}) {
    EXPECT_EQ(ask(path).status, 403) << path;
  }
}

TEST_F(WholeRunsTest, APlanSaysWhetherARunWouldBeAWholeOneAndWhyNot) {
  const auto plan = [&](const std::string& orchestrator, int width, int max_parallel = 0) {
    SubmitCommand command;
    PipelineBuilder b("plan");
    std::vector<std::string> items;
    for (int i = 0; i < width; ++i) items.push_back(std::to_string(i));
    b.Step("a", {"/bin/true"}).Foreach("n", items);
    command.spec = std::move(b.spec());
    command.orchestrator = orchestrator;
    command.max_parallel = max_parallel;
    const auto planned = engine_->PlanRun(std::move(command), 10, /*native=*/false);
    EXPECT_TRUE(planned.ok()) << planned.status();
    EXPECT_THAT(planned->checked.violations, IsEmpty());
    return planned->whole ? std::vector<std::string>{"whole"} : planned->why_step_by_step;
  };
  EXPECT_THAT(plan("pipelines", 2), ElementsAre("whole"));
  EXPECT_THAT(plan("pipelines", 101), ElementsAre("more than 100 steps"));
  EXPECT_THAT(plan("pipelines", 2, 1), ElementsAre(HasSubstr("max_parallel")));
  EXPECT_THAT(plan("local", 2, 1), IsEmpty()) << "it takes none";
}

TEST_F(WholeRunsTest, WhatStandsInTheWayIsSaid) {
  PipelineBuilder b("steps");
  b.Step("a", {"/bin/true"});
  b.options().pools = {{"licence", 1}};
  b.Step("b", {"/bin/true"});
  b.options().orchestrator = "local";
  RunHeader header;
  header.orchestrator = "pipelines";
  header.max_parallel = 2;
  const auto compiled = Compile(b.spec(), CompileLimits());
  ASSERT_TRUE(compiled.graph != nullptr);
  EXPECT_THAT(WhyStepByStep(*compiled.graph, header),
              ElementsAre(HasSubstr("max_parallel"), "step `a` needs slots of a pool", "step `b` is for another one"));
}

}  // namespace
}  // namespace orch
