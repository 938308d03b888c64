#include <atomic>
#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "server/base/status.h"
#include "server/engine/fair_queue.h"
#include "tests/engine/fixture.h"

namespace orch {
namespace {

std::vector<std::string> Sh(std::string script) { return {"/bin/sh", "-c", std::move(script)}; }

TEST_F(EngineFixture, RunsAChain) {
  Submit(
      [] {
        PipelineBuilder b("chain");
        b.Step("a", {"/bin/true"}).Step("b", {"/bin/true"}, {"a"}).Step("c", {"/bin/true"}, {"b"});
        return std::move(b.spec());
      },
      "r");
  const store::RunRecord run = WaitEnd("r");
  EXPECT_EQ(run.row.state, RunState::kSucceeded) << run.row.message;
  EXPECT_EQ(run.row.counts[static_cast<size_t>(StepState::kSucceeded)], 3);
}

// Also by the next daemon, and never for another submission.
TEST_F(EngineFixture, ARepeatedRequestGetsTheFirstAnswer) {
  const auto make = [] {
    PipelineBuilder b("once");
    b.Step("a", {"/bin/true"});
    return std::move(b.spec());
  };
  const auto submit = [&](const std::string& fingerprint) -> absl::StatusOr<std::string> {
    SubmitCommand command;
    command.spec = make();
    command.spec_bytes = shelf_.Put(make);
    command.request_id = "r-1";
    command.fingerprint = fingerprint;
    ASSIGN_OR_RETURN(const store::RunRecord run, engine_->SubmitRun(std::move(command), 10'000'000));
    return run.header.id;
  };
  const auto first = submit("f");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(submit("f").value_or("refused"), *first);
  EXPECT_EQ(ReasonOf(submit("other").status()), "REQUEST_ID_REUSED");
  WaitEnd(*first);
  Stop();
  Start();
  EXPECT_EQ(submit("f").value_or("refused"), *first);
}

RequestRow Under(absl::string_view id, absl::string_view method, absl::string_view fingerprint) {
  RequestRow out;
  out.method = std::string(method);
  out.project = "default";
  out.request_id = std::string(id);
  out.fingerprint = std::string(fingerprint);
  return out;
}

TEST_F(EngineFixture, ACallIsRememberedWithWhatItChanged) {
  const auto ask = [&](absl::string_view method, absl::string_view fingerprint) {
    return engine_->Ask(Under("c-1", method, fingerprint));
  };
  auto asked = ask("SetPool", "p");
  ASSERT_TRUE(asked.ok() && !asked->answer.has_value());
  ASSERT_TRUE(engine_->PutPool({"gpus", 2, ""}, *std::move(asked), 10'000'000).ok());
  // What is refused is not remembered.
  asked = ask("DeletePool", "d");
  ASSERT_TRUE(asked.ok() && !asked->answer.has_value());
  EXPECT_EQ(ReasonOf(engine_->DeletePool("others", *std::move(asked), 10'000'000)), "POOL_NOT_FOUND");
  asked = ask("DeletePool", "d");
  ASSERT_TRUE(asked.ok() && !asked->answer.has_value());
  ASSERT_TRUE(engine_->DeletePool("gpus", *std::move(asked), 10'000'000).ok());
  EXPECT_EQ(ReasonOf(ask("DeletePool", "another").status()), "REQUEST_ID_REUSED");
  // A repeat does nothing, also when there is something to do again, and also at the next daemon.
  ASSERT_TRUE(engine_->PutPool({"gpus", 3, ""}, {}, 10'000'000).ok());
  for (const bool again : {false, true}) {
    if (again) {
      Stop();
      Start();
    }
    for (const bool deletes : {true, false}) {
      asked = deletes ? ask("DeletePool", "d") : ask("SetPool", "p");
      ASSERT_TRUE(asked.ok()) << asked.status();
      EXPECT_TRUE(asked->answer.has_value());
      EXPECT_TRUE((deletes ? engine_->DeletePool("gpus", *std::move(asked), 10'000'000)
                           : engine_->PutPool({"gpus", 2, ""}, *std::move(asked), 10'000'000))
                      .ok());
      const auto pools = engine_->queries().ListPools();
      ASSERT_TRUE(pools.ok() && pools->size() == 1);
      EXPECT_EQ(pools->front().slots, 3);
    }
  }
}

TEST_F(EngineFixture, TwoAtOnceUnderOneRequestIdAreOne) {
  auto first = engine_->Ask(Under("c-1", "DeletePool", "d"));
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(engine_->PutPool({"gpus", 2, ""}, {}, 10'000'000).ok());
  std::atomic<bool> answered{false};
  std::thread second([&] {
    const auto asked = engine_->Ask(Under("c-1", "DeletePool", "d"));
    answered = asked.ok() && asked->answer.has_value();
  });
  EXPECT_TRUE(engine_->DeletePool("gpus", *std::move(first), 10'000'000).ok());
  second.join();
  EXPECT_TRUE(answered);
}

// Its caller had stopped waiting when it was committed: the repeat finds it done, and so does everybody else.
TEST_F(EngineFixture, ADeletionThatWasSlowIsKnownAfterItsRepeat) {
  ASSERT_TRUE(engine_->PutPool({"gpus", 2, ""}, {}, 10'000'000).ok());
  for (const int64_t deadline : {1, 10'000'000}) {
    auto asked = engine_->Ask(Under("c-1", "DeletePool", "d"));
    ASSERT_TRUE(asked.ok()) << asked.status();
    const absl::Status deleted = engine_->DeletePool("gpus", *std::move(asked), deadline);
    EXPECT_TRUE(deleted.ok() || deadline == 1) << deleted;
  }
  const auto refused = TrySubmit([] {
    PipelineBuilder b("pooled");
    b.Step("a", {"/bin/true"}).options().pools = {{"gpus", 1}};
    return std::move(b.spec());
  });
  EXPECT_EQ(ReasonOf(refused.status()), "PIPELINE_INVALID");
}

TEST_F(EngineFixture, ASecretIsSetOnceForARequestId) {
  const auto set = [&](const std::string& value) -> absl::StatusOr<SecretRow> {
    ASSIGN_OR_RETURN(Asked asked, engine_->Ask(Under("s-1", "SetSecret", engine_->SecretFingerprintOf(value))));
    return engine_->SetSecret("default", "key", value, std::move(asked), 10'000'000);
  };
  const auto first = set("one");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(engine_->SetSecret("default", "key", "two", {}, 10'000'000).ok());
  const auto again = set("one");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(std::make_tuple(again->name, again->version, again->updated),
            std::make_tuple(first->name, first->version, first->updated));
  const auto secrets = engine_->queries().ListSecrets("default");
  ASSERT_TRUE(secrets.ok() && secrets->size() == 1);
  EXPECT_EQ(secrets->front().version, first->version + 1);
  EXPECT_EQ(ReasonOf(set("three").status()), "REQUEST_ID_REUSED");
}

// One of the same name that was made since stays good.
TEST_F(EngineFixture, ARepeatedRevocationRevokesNoOtherToken) {
  const auto make = [&] {
    const auto made = engine_->CreateToken("ci", TokenScope::kRead, 0, 10'000'000);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->second : "";
  };
  const auto revoke = [&](absl::string_view id) -> absl::StatusOr<ApiTokenRow> {
    ASSIGN_OR_RETURN(Asked asked, engine_->Ask(Under(id, "RevokeToken", "r")));
    return engine_->RevokeToken("ci", std::move(asked), 10'000'000);
  };
  make();
  const auto first = revoke("t-1");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(revoke("t-2").ok());
  const std::string good = make();
  for (const absl::string_view id : {"t-1", "t-2"}) {
    const auto again = revoke(id);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(std::make_pair(again->created, again->revoked), std::make_pair(first->created, first->revoked));
  }
  EXPECT_TRUE(engine_->AuthenticateToken(good).ok());
}

TEST_F(EngineFixture, ARequestIsForgottenAfterSevenDays) {
  Stop();
  const Now now = Clock::Real().Now();
  {
    auto writer = store::Writer::Open({dir_}, now);
    ASSERT_TRUE(writer.ok()) << writer.status();
    Batch batch;
    for (int i = 0; i < 4'500; ++i) {  // more than one slice
      batch.requests.push_back(Under(absl::StrCat("old-", i), "DeletePool", "d"));
      batch.requests.back().created = now.wall - kRequestKeptMicros - 1'000 - i;
    }
    batch.requests.push_back(Under("young", "DeletePool", "d"));
    batch.requests.back().created = now.wall - kRequestKeptMicros + 600'000'000;
    ASSERT_TRUE((*writer)->Commit(&batch).ok());
  }
  Start();
  EXPECT_TRUE(WaitFor([&] { return !engine_->queries().HasRequestBefore(now.wall - kRequestKeptMicros).value(); }));
  for (const absl::string_view id : {"old-0", "old-4499", "young"}) {
    const auto found = engine_->queries().FindRequest("DeletePool", "default", id);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->has_value(), id == "young") << id;
  }
}

TEST_F(EngineFixture, PassesFilesValuesAndFanIns) {
  Submit(
      [] {
        PipelineBuilder b("data");
        b.Step("gen", Sh("printf hello > $ORCH_OUTPUT_TEXT; echo '{\"n\": 3}' > $ORCH_OUTPUT_FACT"))
            .Output("fact", true)
            .Output("text");
        b.Step("each", Sh("printf '%s-%s' \"$(cat $ORCH_INPUT_TEXT)\" ${item.m} > ${outputs.out}"))
            .Foreach("m", {"\"x\"", "\"y\"", "\"z\""})
            .Input("text", "gen.text")
            .Output("out");
        b.Step("same", Sh("cat ${inputs.in} > ${outputs.out}; printf '!' >> ${outputs.out}"))
            .Foreach("m", {"\"z\"", "\"x\"", "\"y\""})
            .Input("in", "each[item].out")
            .Output("out");
        b.Step("all",
               Sh("cat $ORCH_INPUT_PARTS/0* > $ORCH_OUTPUT_OUT; printf '%s' '${values.fact}' >> $ORCH_OUTPUT_OUT"))
            .Input("fact", "gen.fact")
            .Input("parts", "same[*].out")
            .Output("out");
        return std::move(b.spec());
      },
      "r");
  const store::RunRecord run = WaitEnd("r");
  for (const StepRow& s : Steps("r")) EXPECT_EQ(s.state, StepState::kSucceeded) << s.name << ": " << s.message;
  ASSERT_EQ(run.row.state, RunState::kSucceeded);
  EXPECT_EQ(Text("r", "all.out"), "hello-z!hello-x!hello-y!{\"n\":3}");
}

TEST_F(EngineFixture, TellsHowACommandFailed) {
  Submit(
      [] {
        PipelineBuilder b("bad");
        b.Step("exit", Sh("exit 3"));
        b.Step("missing", {"no-such-program"});
        b.Step("dir", {"/bin/true"});
        b.options().working_dir = "/nonexistent";
        b.Step("forgot", {"/bin/true"}).Output("x");
        b.Step("link", Sh("ln -s /etc/passwd $ORCH_OUTPUT_X")).Output("x");
        b.Step("signal", Sh("kill -9 $$$$"));
        b.Step("after", {"/bin/true"}, {"exit"});
        return std::move(b.spec());
      },
      "r");
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kFailed);
  std::map<std::string, Reason> reasons;
  for (const StepRow& s : Steps("r")) reasons[s.name] = s.reason;
  EXPECT_EQ(reasons["exit"], Reason::kExitCode);
  EXPECT_EQ(reasons["missing"], Reason::kCommandNotFound);
  EXPECT_EQ(reasons["dir"], Reason::kWorkingDirInvalid);
  EXPECT_EQ(reasons["forgot"], Reason::kOutputMissing);
  EXPECT_EQ(reasons["link"], Reason::kOutputInvalid);
  EXPECT_EQ(reasons["signal"], Reason::kSignaled);
  EXPECT_EQ(reasons["after"], Reason::kUpstreamFailed);
}

TEST_F(EngineFixture, CachedStepsDoNotRunAgain) {
  const std::string marks = dir_ + "/marks";
  const auto make = [marks] {
    PipelineBuilder b("cached");
    b.Step("a", Sh("echo ran >> " + marks + "; echo 1 > $ORCH_OUTPUT_X")).Output("x");
    b.options().cache_enabled = true;
    b.Step("b", Sh("echo ran >> " + marks + "; cat $ORCH_INPUT_X > $ORCH_OUTPUT_Y")).Input("x", "a.x").Output("y");
    b.options().cache_enabled = true;
    return std::move(b.spec());
  };
  Submit(make, "first");
  EXPECT_EQ(WaitEnd("first").row.state, RunState::kSucceeded);
  Submit(make, "second");
  EXPECT_EQ(WaitEnd("second").row.state, RunState::kSucceeded);
  for (const StepRow& s : Steps("second")) {
    EXPECT_EQ(s.state, StepState::kCached) << s.name;
    EXPECT_EQ(s.cached_from, "first");
  }
  std::ifstream in(marks);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "ran\nran\n");
}

TEST_F(EngineFixture, StepsOutliveTheDaemonAndAreAdopted) {
  const std::string gate = dir_ + "/gate";
  Submit(
      [gate] {
        PipelineBuilder b("long");
        b.Step("a",
               Sh("echo begin; while [ ! -e " + gate + " ]; do sleep 0.02; done; echo end; echo v > $ORCH_OUTPUT_X"))
            .Output("x");
        b.Step("b", Sh("cat $ORCH_INPUT_X")).Input("x", "a.x");
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitFor([&] { return !Steps("r").empty() && Steps("r")[0].state == StepState::kRunning; }));
  Stop();
  Start();
  EXPECT_EQ(Steps("r")[0].state, StepState::kRunning);
  std::ofstream(gate).put('x');
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kSucceeded);
  EXPECT_EQ(Steps("r")[0].attempt, 1u);
  const auto attempts = engine_->queries().ListAttempts(Run("r").header.key, 0);
  ASSERT_TRUE(attempts.ok());
  auto log = engine_->OpenLog(Run("r"), 0, attempts->at(0), LogStreamName::kStdout);
  ASSERT_TRUE(log.ok());
  EXPECT_EQ((*log)->Read(0, 100).value(), "begin\nend\n");
}

TEST_F(EngineFixture, CancelEndsTheWholeTree) {
  const std::string pid_file = dir_ + "/pid";
  Submit(
      [pid_file] {
        PipelineBuilder b("stuck");
        b.Step("a",
               Sh("setsid sh -c 'echo $$$$ > " + pid_file + "; trap \"\" TERM; while :; do sleep 0.05; done' & wait"));
        b.Step("b", {"/bin/true"}, {"a"});
        return std::move(b.spec());
      },
      "r");
  int pid = 0;
  ASSERT_TRUE(WaitFor([&] { return bool(std::ifstream(pid_file) >> pid); }));
  ASSERT_TRUE(engine_->CancelRun(Run("r").header.key, {}, false, {}, 5'000'000).ok());
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kCancelled);
  EXPECT_EQ(Steps("r")[0].state, StepState::kCancelled);
  EXPECT_EQ(Steps("r")[1].state, StepState::kCancelled);
  EXPECT_NE(kill(pid, 0), 0) << "the child that called setsid is still there";
}

TEST_F(EngineFixture, RetriesAndTimesOut) {
  const std::string counter = dir_ + "/n";
  Submit(
      [counter] {
        PipelineBuilder b("again");
        b.Step("flaky", Sh("echo x >> " + counter + "; [ $(wc -l < " + counter + ") -ge 3 ]"));
        b.options().retry.max_attempts = 5;
        b.options().retry.initial_micros = 20'000;
        b.Step("slow", Sh("sleep 60"));
        b.options().run_timeout_micros = 200'000;
        return std::move(b.spec());
      },
      "r");
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kFailed);
  const auto steps = Steps("r");
  EXPECT_EQ(steps[0].state, StepState::kSucceeded);
  EXPECT_EQ(steps[0].attempt, 3u);
  EXPECT_EQ(steps[1].state, StepState::kFailed);
  EXPECT_EQ(steps[1].reason, Reason::kRunTimeout);
}

TEST_F(EngineFixture, RefusesWhatTheMachineDoesNotHave) {
  const auto id = TrySubmit([] {
    PipelineBuilder b("big");
    b.Step("a", {"/bin/true"});
    b.options().resources.cpu_millis = 4'000'000;
    return std::move(b.spec());
  });
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(ReasonOf(id.status()), "PIPELINE_INVALID");
  ASSERT_EQ(ViolationsOf(id.status()).size(), 1u);
  EXPECT_THAT(ViolationsOf(id.status())[0].description, testing::HasSubstr("cpu 4000: local offers "));
}

TEST_F(EngineFixture, ANameIsTakenOnce) {
  const auto make = [] {
    PipelineBuilder b("p");
    b.Step("a", {"/bin/true"});
    return std::move(b.spec());
  };
  Submit(make, "same");
  EXPECT_EQ(ReasonOf(TrySubmit(make, "same").status()), "RUN_NAME_TAKEN");
}

TEST_F(EngineFixture, EarlyConsumersStartBeforeTheProducerEnds) {
  const std::string gate = dir_ + "/gate";
  Submit(
      [gate] {
        PipelineBuilder b("early");
        b.Step("producer", Sh("echo data > $ORCH_OUTPUT_X; touch " + gate + ".written; while [ ! -e " + gate +
                              " ]; do sleep 0.02; done"))
            .Output("x");
        b.Step("eager", Sh("cat $ORCH_INPUT_X; touch " + gate)).Input("x", "producer.x", /*early=*/true);
        b.Step("patient", Sh("[ -e " + gate + " ]")).Input("x", "producer.x");
        return std::move(b.spec());
      },
      "r");
  ASSERT_TRUE(WaitFor([&] { return std::filesystem::exists(gate + ".written"); }));
  const auto attempts = engine_->queries().ListAttempts(Run("r").header.key, 0);
  ASSERT_TRUE(attempts.ok());
  PublishCommand publish;
  publish.run = Run("r").header.key;
  publish.fence = attempts->at(0).key;
  publish.output = "x";
  const auto id = engine_->PublishArtifact(publish, 5'000'000);
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(engine_->PublishArtifact(publish, 5'000'000).value_or(0), *id) << "a repeat gets the first answer";
  // The producer waits for the gate that only its eager consumer opens.
  EXPECT_EQ(WaitEnd("r").row.state, RunState::kSucceeded);
}

TEST_F(EngineFixture, RunsOnAnotherOrchestrator) {
  const OrchestratorRow row{"default", "pretend", "fake", "{}", 0, 0, 0, 1};
  ASSERT_TRUE(engine_->PutOrchestrator(row, 0, false, 5'000'000).ok());
  Submit(
      [] {
        PipelineBuilder b("elsewhere");
        b.Step("here", {"/bin/true"});
        b.Step("there", {"/bin/true"}, {"here"});
        b.options().orchestrator = "pretend";
        b.Step("there-too", {"/bin/true"}, {"there"}).Output("x");
        b.options().orchestrator = "pretend";
        return std::move(b.spec());
      },
      "r");
  EXPECT_EQ(WaitEnd("r", 5).row.state, RunState::kSucceeded);
  for (const StepRow& s : Steps("r")) EXPECT_EQ(s.state, StepState::kSucceeded) << s.name << " " << Name(s.state);
}

TEST(FairQueue, LanesTakeTurnsAndKeepTheirOrder) {
  FairQueue<int> queue;
  for (int i = 0; i < 1000; ++i) queue.Push(1, i);
  queue.Push(2, -1);
  queue.Push(2, -2);
  EXPECT_EQ(queue.size(), 1002u);
  std::vector<int> first;
  for (int i = 0; i < 6; ++i) first.push_back(queue.Pop());
  EXPECT_EQ(first, (std::vector<int>{0, -1, 1, -2, 2, 3}));
  for (int i = 4; i < 1000; ++i) EXPECT_EQ(queue.Pop(), i);
  EXPECT_TRUE(queue.empty());
  for (int64_t lane = 0; lane < 1000; ++lane) queue.Push(lane, static_cast<int>(lane));  // more lanes than it keeps
  for (int lane = 0; lane < 1000; ++lane) EXPECT_EQ(queue.Pop(), lane);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace orch
