// The real program as a process, against the scripted double of the daemon: what it prints, and its exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/client/process.h"
#include "tests/client/scratch.h"
#include "tests/client/scripted_server.h"

namespace orch::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

constexpr char kToken[] = "tok-123";

class OrchctlTest : public ::testing::Test {
 protected:
  OrchctlTest() : server_("127.0.0.1:0", kToken) {
    environment_ = {{"HOME", scratch_.path()},
                    {"PATH", "/usr/bin:/bin"},
                    {"ORCH_SERVER", server_.address()},
                    {"ORCH_TOKEN", kToken},
                    {"LANG", "C.UTF-8"},
                    {"TZ", "UTC"},
                    {"ORCH_DATA_DIR", scratch_.path() + "/data"}};
  }

  Result Orchctl(std::vector<std::string> words, const std::string& input = "") {
    words.insert(words.begin(), ORCHCTL);
    return RunProgram(words, environment_, input);
  }
  static int Lines(const std::string& text) { return static_cast<int>(std::count(text.begin(), text.end(), '\n')); }

  std::string Pipeline() {
    return scratch_.Write("p.yaml",
                          "name: p\nsteps:\n  - name: a\n    command: [/bin/true]\n  - name: b\n"
                          "    command: [/bin/true]\n    after: [a]\n");
  }

  Scratch scratch_;
  ScriptedServer server_;
  std::map<std::string, std::string> environment_;
};

v1::Run MakeRun(v1::Run::State state) {
  v1::Run run;
  run.set_name("p-1");
  run.set_id("0190-id");
  run.set_state(state);
  run.set_pipeline("p");
  run.set_pipeline_version(3);
  run.set_step_count(2);
  (*run.mutable_run_metadata())["orchestrator_url"] = "http://127.0.0.1:9/runs/p-1";
  (*run.mutable_step_counts())["SUCCEEDED"] = 2;
  run.set_last_sequence(int64_t{1} << 40);
  run.mutable_create_time()->set_seconds(1'700'000'000);
  return run;
}

v1::Step MakeStep(const std::string& name, int64_t index, v1::Step::State state) {
  v1::Step step;
  step.set_name(name);
  step.set_run("p-1");
  step.set_index(index);
  step.set_state(state);
  step.set_attempt(1);
  return step;
}

// Answers a call with a fixed message.
template <typename Message>
auto Answer(const Message& message) {
  return [message](const auto&, Message* out) {
    *out = message;
    return grpc::Status::OK;
  };
}

grpc::Status NoRun() { return WireError(grpc::StatusCode::NOT_FOUND, "RUN_NOT_FOUND", "no run x; see list-runs"); }

// --- one-line errors and exit codes

TEST_F(OrchctlTest, WrongUsageIsOneLineAndTwo) {
  const struct {
    std::vector<std::string> words;
    const char* says;
  } cases[] = {
      {{"sumbit", "x"}, "did you mean `submit`"},
      {{"--nope"}, "unknown flag --nope"},
      {{"submit", "x.yaml", "--wacth"}, "did you mean `--watch`"},
      {{"get-run"}, "RUN is required"},
      {{"get-run", "a", "b"}, "unexpected argument `b`"},
      {{"list-runs", "-o", "xml"}, "none of table"},
      {{"list-runs", "--limit", "x"}, "--limit"},
      {{"wait-run", "r", "--timeout", "soon"}, "no duration"},
      {{"submit", "/does/not/exist.yaml"}, "No such file"},
      {{"--server", "example.org:1", "list-runs"}, "example.org:1"},
      {{"--token-file", "/does/not/exist", "list-runs"}, "token file"},
      {{"apply"}, "-f FILE"},
      {{"register-orchestrator", "x"}, "--flavor"},
      {{"completion", "tcsh"}, "tcsh"},
  };
  for (const auto& c : cases) {
    const Result result = Orchctl(c.words);
    EXPECT_EQ(result.code, 2) << c.says << result.err;
    EXPECT_EQ(Lines(result.err), 1) << result.err;
    EXPECT_THAT(result.err, StartsWith("orchctl"));
    EXPECT_THAT(result.err, HasSubstr(c.says));
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(OrchctlTest, ABadParameterIsUsage) {
  const Result result = Orchctl({"submit", Pipeline(), "--param", "novalue"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("NAME=VALUE"));
}

TEST_F(OrchctlTest, AnUnreachableServerIsOneLineAndSeven) {
  server_.Stop();
  const Result result = Orchctl({"list-runs"});
  EXPECT_EQ(result.code, 7);
  EXPECT_EQ(Lines(result.err), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr(server_.address()));
}

TEST_F(OrchctlTest, WithoutADaemonItSaysHowToStartOne) {
  environment_.erase("ORCH_SERVER");
  for (const auto& words : {std::vector<std::string>{"list-runs"}, {"submit", "--no-start", Pipeline()}}) {
    const Result result = Orchctl(words);
    EXPECT_EQ(result.code, 7);
    EXPECT_EQ(Lines(result.err), 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("orchd --data-dir"));
  }
}

TEST_F(OrchctlTest, AWrongTokenIsOneLineAndFour) {
  environment_["ORCH_TOKEN"] = "wrong-secret";
  const Result result = Orchctl({"list-runs"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(Lines(result.err), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("--token-file"));
  EXPECT_THAT(result.err, Not(HasSubstr("wrong-secret")));
}

TEST_F(OrchctlTest, AnUnknownRunIsThree) {
  server_.get_run = [](const v1::GetRunRequest&, v1::Run*) { return NoRun(); };
  server_.watch_runs = [](const v1::WatchRunsRequest&, grpc::ServerContext*, const auto&) { return NoRun(); };
  server_.wait_run = [](const v1::WaitRunRequest&, v1::Run*) { return NoRun(); };
  for (const char* verb : {"get-run", "watch-run", "wait-run"}) {
    const Result result = Orchctl({verb, "x"});
    EXPECT_EQ(result.code, 3) << verb;
    EXPECT_EQ(result.err, "orchctl: no run x; see list-runs\n");
  }
}

TEST_F(OrchctlTest, ARefusalIsEight) {
  server_.submit_run = [](const v1::SubmitRunRequest&, v1::Run*) {
    return WireError(grpc::StatusCode::FAILED_PRECONDITION, "FLAVOR_NOT_IN_BUILD", "vertex: not in this build");
  };
  const Result result = Orchctl({"submit", Pipeline()});
  EXPECT_EQ(result.code, 8);
  EXPECT_EQ(result.err, "orchctl: vertex: not in this build\n");
}

TEST_F(OrchctlTest, OutcomesHaveExitCodes) {
  const std::pair<v1::Run::State, int> cases[] = {
      {v1::Run::SUCCEEDED, 0}, {v1::Run::FAILED, 1}, {v1::Run::CANCELLED, 5}, {v1::Run::RUNNING, 6}};
  for (const auto& [state, code] : cases) {
    server_.wait_run = Answer(MakeRun(state));
    const Result result = Orchctl({"wait-run", "p-1", "--timeout", "10ms"});
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.out, absl::StrCat("p-1 ", v1::Run::State_Name(state), "\n"));
  }
}

TEST_F(OrchctlTest, EveryVerbHasHelpWithAnExample) {
  const Result all = Orchctl({"--help"});
  EXPECT_EQ(all.code, 0);
  for (const char* verb : {"submit",
                           "validate",
                           "get-run",
                           "list-runs",
                           "list-steps",
                           "get-step",
                           "watch-run",
                           "wait-run",
                           "cancel-run",
                           "logs",
                           "list-flavors",
                           "describe-flavor",
                           "register-orchestrator",
                           "list-orchestrators",
                           "apply",
                           "open-run",
                           "list-artifacts",
                           "get-artifact",
                           "server-info",
                           "version",
                           "completion"}) {
    EXPECT_THAT(all.out, HasSubstr(absl::StrCat("\n  ", verb, " "))) << verb;
    for (const auto& words : {std::vector<std::string>{verb, "-h"}, {"help", verb}}) {
      const Result help = Orchctl(words);
      EXPECT_EQ(help.code, 0) << verb;
      EXPECT_THAT(help.out, HasSubstr("Example:\n")) << verb;
      EXPECT_THAT(help.out, HasSubstr(absl::StrCat("orchctl ", verb))) << verb;
    }
  }
}

// --- submit and validate

TEST_F(OrchctlTest, SubmitSendsAllAndPrintsTheName) {
  v1::SubmitRunRequest seen;
  server_.submit_run = [&seen](const v1::SubmitRunRequest& request, v1::Run* run) {
    seen = request;
    *run = MakeRun(v1::Run::PENDING);
    return grpc::Status::OK;
  };
  const Result result = Orchctl({"submit", Pipeline(), "--param", "folds=5", "--param", "mode=fast", "--name", "p-1",
                                 "--label", "team=vision", "--orchestrator", "small", "--priority", "-5", "--no-cache",
                                 "--request-id", "id-1", "--project", "x"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "p-1\n");
  EXPECT_EQ(result.err, "http://127.0.0.1:9/runs/p-1\n");
  EXPECT_EQ(seen.pipeline().name(), "p");
  EXPECT_EQ(seen.pipeline().steps_size(), 2);
  EXPECT_EQ(seen.parameters().at("folds").number_value(), 5);
  EXPECT_EQ(seen.parameters().at("mode").string_value(), "fast");
  EXPECT_EQ(seen.name(), "p-1");
  EXPECT_EQ(seen.labels().at("team"), "vision");
  EXPECT_EQ(seen.orchestrator(), "small");
  EXPECT_EQ(seen.priority(), -5);
  EXPECT_TRUE(seen.has_use_cache());
  EXPECT_FALSE(seen.use_cache());
  EXPECT_EQ(seen.request_id(), "id-1");
  EXPECT_EQ(seen.project(), "x");
  EXPECT_EQ(seen.submitter().source_dir(), std::filesystem::canonical(scratch_.path()).string());
  EXPECT_FALSE(seen.submitter().host().empty());
  EXPECT_EQ(seen.submitter().environment().at("PATH"), "/usr/bin:/bin");
  EXPECT_EQ(seen.submitter().environment().at("TZ"), "UTC");
  EXPECT_FALSE(seen.submitter().environment().contains("ORCH_TOKEN"));
}

TEST_F(OrchctlTest, SubmitReadsStdin) {
  server_.submit_run = Answer(MakeRun(v1::Run::PENDING));
  EXPECT_EQ(Orchctl({"submit", "-"}, "{\"name\": \"p\", \"steps\": [{\"name\": \"a\", \"command\": [\"x\"]}]}").out,
            "p-1\n");
}

TEST_F(OrchctlTest, ARelativeSourceBecomesAbsolute) {
  std::string source;
  server_.submit_run = [&source](const v1::SubmitRunRequest& request, v1::Run* run) {
    source = request.pipeline().steps(0).source().path();
    *run = MakeRun(v1::Run::PENDING);
    return grpc::Status::OK;
  };
  const std::string file =
      scratch_.Write("s.yaml", "name: p\nsteps:\n  - {name: a, command: [x], source: {path: ./code/}}\n");
  const Result result = Orchctl({"submit", file});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(source, std::filesystem::canonical(scratch_.path()).string() + "/code");
}

TEST_F(OrchctlTest, FaultsOfTheFileAreAllPrintedWithTheirPlaces) {
  std::atomic<bool> called{false};
  server_.submit_run = [&called](const v1::SubmitRunRequest&, v1::Run*) {
    called = true;
    return grpc::Status::OK;
  };
  const std::string file =
      scratch_.Write("bad.yaml", "name: p\nsteps:\n  - name: a\n    comand: [x]\n  - name: b\n    command: x\n");
  for (const char* verb : {"submit", "validate"}) {
    const Result result = Orchctl({verb, file});
    EXPECT_EQ(result.code, 8);
    EXPECT_THAT(result.err, HasSubstr(file + ":4:"));
    EXPECT_THAT(result.err, HasSubstr(file + ":6:"));
  }
  EXPECT_FALSE(called);
}

TEST_F(OrchctlTest, FaultsThatOnlyTheServerSeesHavePlacesToo) {
  server_.submit_run = [](const v1::SubmitRunRequest&, v1::Run*) {
    return WireError(grpc::StatusCode::INVALID_ARGUMENT, "PIPELINE_INVALID", "2 faults",
                     {{"steps[1].after[0]", "no step `z`", "UNKNOWN_REFERENCE"},
                      {"request.parameters.folds", "there is no such parameter", "UNKNOWN_REFERENCE"}});
  };
  server_.validate_pipeline = [](const v1::ValidatePipelineRequest&, v1::ValidatePipelineResponse* response) {
    auto* v = response->add_violations();
    v->set_field("steps[1].after[0]");
    v->set_description("no step `z`");
    // Not in the answer to the submission, whose room is small.
    auto* more = response->add_violations();
    more->set_field("steps[0].command[0]");
    more->set_description("no such program");
    return grpc::Status::OK;
  };
  const std::string file = Pipeline();
  const Result result = Orchctl({"submit", file});
  EXPECT_EQ(result.code, 8);
  EXPECT_THAT(result.err, HasSubstr(file + ":7:13: steps[1].after[0]: no step `z`\n"));
  EXPECT_THAT(result.err, HasSubstr(file + ":4:15: steps[0].command[0]: no such program\n"));
  EXPECT_THAT(result.err, HasSubstr("orchctl: --param folds: there is no such parameter\n"));
  EXPECT_THAT(result.err, HasSubstr("2 faults"));
  const Result validated = Orchctl({"validate", file});
  EXPECT_EQ(validated.code, 8);
  EXPECT_THAT(validated.err, HasSubstr(file + ":7:13: "));
}

TEST_F(OrchctlTest, ValidateSaysGoodWithAndWithoutADaemon) {
  v1::ValidatePipelineResponse response;
  response.set_step_count(2);
  server_.validate_pipeline = Answer(response);
  EXPECT_THAT(Orchctl({"validate", Pipeline()}).out, HasSubstr("good, 2 steps"));
  environment_.erase("ORCH_SERVER");
  const Result alone = Orchctl({"validate", Pipeline()});
  EXPECT_EQ(alone.code, 0);
  EXPECT_THAT(alone.out, HasSubstr("no daemon"));
}

TEST_F(OrchctlTest, SubmitStartsADaemonIfNoneRuns) {
  // A copy of the program in a folder of its own, so that the `orchd` beside it is ours: a double that announces the
  // scripted server.
  const std::string folder = scratch_.path() + "/bin";
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(ORCHCTL, folder + "/orchctl");
  const std::string script = absl::StrReplaceAll(
      "#!/bin/sh\nprintf '%s' \"$*\" > ARGS\nprintf '{\"grpc\": \"ADDRESS\", \"grpc_unix\": \"\", \"pid\": %d}' $$ > "
      "DATA/part\nmv DATA/part DATA/server.json\nexec sleep 60\n",
      {{"ARGS", scratch_.path() + "/args"}, {"ADDRESS", server_.address()}, {"DATA", scratch_.path() + "/data"}});
  chmod(scratch_.Write("bin/orchd", script).c_str(), 0755);
  server_.submit_run = Answer(MakeRun(v1::Run::PENDING));
  environment_.erase("ORCH_SERVER");
  const Result result = RunProgram({folder + "/orchctl", "submit", Pipeline()}, environment_);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "p-1\n");
  const Json json = Json::parse(ReadFile(scratch_.path() + "/data/server.json"));
  const pid_t pid = json["pid"].get<pid_t>();
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat("kill ", pid)));
  EXPECT_EQ(ReadFile(scratch_.path() + "/args"), "--data-dir " + scratch_.path() + "/data");
  EXPECT_EQ(getsid(pid), pid) << "it must live in a session of its own";
  struct stat info {};
  ASSERT_EQ(stat((scratch_.path() + "/data").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0700u);
  // A second submit uses the one that runs.
  const Result again = RunProgram({folder + "/orchctl", "submit", Pipeline()}, environment_);
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, Not(HasSubstr("started")));
  kill(pid, SIGKILL);
}

TEST_F(OrchctlTest, ADaemonThatDoesNotComeUpIsExplained) {
  const std::string folder = scratch_.path() + "/bin";
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(ORCHCTL, folder + "/orchctl");
  chmod(scratch_.Write("bin/orchd", "#!/bin/sh\necho 'the disk is full' >&2\nexit 1\n").c_str(), 0755);
  environment_.erase("ORCH_SERVER");
  const Result result = RunProgram({folder + "/orchctl", "submit", Pipeline()}, environment_);
  EXPECT_EQ(result.code, 7);
  EXPECT_EQ(Lines(result.err), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the disk is full"));
  EXPECT_THAT(result.err, HasSubstr("orchd.log"));
}

// --- output

TEST_F(OrchctlTest, GetRunInEveryForm) {
  server_.get_run = Answer(MakeRun(v1::Run::RUNNING));
  const Json json = Json::parse(Orchctl({"get-run", "p-1", "-o", "json"}).out);
  EXPECT_EQ(json["name"], "p-1");
  EXPECT_EQ(json["state"], "RUNNING");
  EXPECT_EQ(json["run_metadata"]["orchestrator_url"], "http://127.0.0.1:9/runs/p-1");
  EXPECT_EQ(json["last_sequence"], int64_t{1} << 40);
  EXPECT_EQ(json["create_time"], "2023-11-14T22:13:20.000000Z");
  EXPECT_EQ(Orchctl({"get-run", "p-1", "-o", "json", "--jq", ".run_metadata.orchestrator_url"}).out,
            "http://127.0.0.1:9/runs/p-1\n");
  EXPECT_EQ(Orchctl({"get-run", "p-1", "-o", "name"}).out, "p-1\n");
  EXPECT_THAT(Orchctl({"get-run", "p-1", "-o", "yaml"}).out, HasSubstr("state: RUNNING\n"));
  const std::string table = Orchctl({"get-run", "p-1"}).out;
  EXPECT_THAT(table, HasSubstr("http://127.0.0.1:9/runs/p-1"));
  EXPECT_THAT(table, Not(HasSubstr("\x1b")));
  const Result bad = Orchctl({"get-run", "p-1", "--jq", ".["});
  EXPECT_EQ(bad.code, 2);
  EXPECT_EQ(Lines(bad.err), 1) << bad.err;
}

TEST_F(OrchctlTest, ListRunsPagesUpToTheLimit) {
  std::vector<std::string> tokens;
  server_.list_runs = [&tokens](const v1::ListRunsRequest& request, v1::ListRunsResponse* response) {
    tokens.push_back(absl::StrCat(request.page_token(), "/", request.page_size(), "/", request.filter()));
    for (int i = 0; i < 2; ++i) *response->add_runs() = MakeRun(v1::Run::SUCCEEDED);
    if (tokens.size() < 3) response->set_next_page_token(absl::StrCat("t", tokens.size()));
    return grpc::Status::OK;
  };
  const Json json = Json::parse(Orchctl({"list-runs", "--all", "-o", "json", "--filter", "state=SUCCEEDED"}).out);
  EXPECT_EQ(json["runs"].size(), 6u);
  EXPECT_EQ(json["next_page_token"], "");
  EXPECT_THAT(tokens, ElementsAre("/1000/state=SUCCEEDED", "t1/1000/state=SUCCEEDED", "t2/1000/state=SUCCEEDED"));
  tokens.clear();
  const Result limited = Orchctl({"list-runs", "--limit", "2", "--page-token", "t0"});
  EXPECT_THAT(tokens, ElementsAre("t0/2/"));
  EXPECT_EQ(Lines(limited.out), 3);
  EXPECT_THAT(limited.err, HasSubstr("--page-token t1"));
}

TEST_F(OrchctlTest, AnEmptyListIsStillAList) {
  server_.list_runs = Answer(v1::ListRunsResponse());
  const Json json = Json::parse(Orchctl({"list-runs", "-o", "json"}).out);
  EXPECT_EQ(json.dump(), R"({"next_page_token":"","runs":[]})");
}

TEST_F(OrchctlTest, EveryStepHasItsSixFields) {
  v1::ListStepsResponse response;
  *response.add_steps() = MakeStep("a", 0, v1::Step::WAITING);
  v1::Step failed = MakeStep("b", 1, v1::Step::FAILED);
  failed.set_reason(v1::Reason::EXIT_CODE);
  failed.set_exit_code(0);
  *response.add_steps() = failed;
  server_.list_steps = Answer(response);
  const Json steps = Json::parse(Orchctl({"list-steps", "p-1", "-o", "json"}).out)["steps"];
  ASSERT_EQ(steps.size(), 2u);
  for (const Json& step : steps) {
    for (const char* field : {"name", "state", "attempt", "reason", "message", "exit_code"}) {
      EXPECT_TRUE(step.contains(field)) << field;
    }
  }
  EXPECT_TRUE(steps[0]["exit_code"].is_null());
  EXPECT_EQ(steps[1]["exit_code"], 0);
  EXPECT_EQ(steps[1]["reason"], "EXIT_CODE");
}

TEST_F(OrchctlTest, ANameCannotSteerTheTerminal) {
  v1::Run run = MakeRun(v1::Run::FAILED);
  run.set_message("evil \x1b]0;title\x07 text");
  server_.get_run = Answer(run);
  EXPECT_THAT(Orchctl({"get-run", "p-1"}).out, Not(HasSubstr("\x1b")));
}

TEST_F(OrchctlTest, LogsAreByteExact) {
  const std::string bytes("a\0b\xff\x1b[0m\n", 9);
  v1::TailLogsRequest seen;
  server_.tail_logs = [&](const v1::TailLogsRequest& request, grpc::ServerContext*, const auto& send) {
    seen = request;
    v1::TailLogsResponse chunk;
    chunk.set_data(bytes);
    chunk.set_next_offset(9);
    send(chunk);
    return grpc::Status::OK;
  };
  const Result result = Orchctl({"logs", "p-1", "train[0]", "--attempt", "2", "--stream", "stderr", "--tail", "7"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, bytes);
  EXPECT_EQ(seen.step(), "train[0]");
  EXPECT_EQ(seen.attempt(), 2);
  EXPECT_EQ(seen.stream(), v1::LogStream::STDERR);
  EXPECT_EQ(seen.tail_lines(), 7);
  EXPECT_FALSE(seen.follow());
}

TEST_F(OrchctlTest, GetArtifactChecksTheDigestAndLeavesNoHalfFile) {
  v1::Artifact artifact;
  artifact.set_id("art-1");
  artifact.set_name("p.a.x");
  artifact.set_version(2);
  artifact.set_digest("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // of "abc"
  server_.get_artifact = Answer(artifact);
  v1::ReadArtifactResponse piece;
  piece.set_data("abc");
  piece.set_end(true);
  server_.read_artifact = Answer(piece);
  const std::string path = scratch_.path() + "/x";
  EXPECT_EQ(Orchctl({"get-artifact", "p.a.x", "--output", path}).code, 0);
  EXPECT_EQ(ReadFile(path), "abc");
  EXPECT_EQ(Orchctl({"get-artifact", "p.a.x", "--output", "-"}).out, "abc");
  piece.set_data("abd");
  server_.read_artifact = Answer(piece);
  const Result damaged = Orchctl({"get-artifact", "p.a.x", "--output", scratch_.path() + "/y"});
  EXPECT_EQ(damaged.code, 8);
  EXPECT_THAT(damaged.err, HasSubstr("damaged"));
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    EXPECT_THAT(entry.path().filename().string(), Not(StartsWith("y")));
  }
}

TEST_F(OrchctlTest, OpenRunPrintsTheLink) {
  v1::SignInLink link;
  link.set_url("http://127.0.0.1:9/sign-in?x");
  server_.create_sign_in_link = Answer(link);
  EXPECT_EQ(Orchctl({"open-run", "p-1"}).out, "http://127.0.0.1:9/sign-in?x\n");
}

TEST_F(OrchctlTest, VersionAnswersWithoutADaemon) {
  server_.Stop();
  environment_.erase("ORCH_SERVER");
  const Result result = Orchctl({"version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, StartsWith("orchctl "));
}

TEST_F(OrchctlTest, CompletionScriptsKnowVerbsAndFlags) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Result result = Orchctl({"completion", shell});
    EXPECT_EQ(result.code, 0);
    for (const char* word : {"submit", "watch-run", "param", "list-runs -o name"}) {
      EXPECT_THAT(result.out, HasSubstr(word)) << shell;
    }
  }
  const std::string script = scratch_.Write("c.bash", Orchctl({"completion", "bash"}).out +
                                                          "\nCOMP_WORDS=(orchctl list-r); COMP_CWORD=1; _orchctl; echo "
                                                          "\"${COMPREPLY[*]}\"\nCOMP_WORDS=(orchctl submit --par); "
                                                          "COMP_CWORD=2; _orchctl; echo \"${COMPREPLY[*]}\"\n"
                                                          "orchctl() { echo \"$*\" | cut -d' ' -f1,2 | tr ' ' _; }\n"
                                                          "COMP_WORDS=(orchctl logs ''); COMP_CWORD=2; _orchctl; echo "
                                                          "\"${COMPREPLY[*]}\"\n"
                                                          "COMP_WORDS=(orchctl logs -f run-1 ''); COMP_CWORD=4; "
                                                          "_orchctl; echo \"${COMPREPLY[*]}\"\n");
  EXPECT_EQ(RunProgram({"/bin/bash", script}, environment_).out,
            "list-runs\n--param\nlist-runs_-o\nlist-steps_run-1\n");
}

// --- apply

TEST_F(OrchctlTest, ApplyShowsTheDifferenceAndSendsOnlyThat) {
  v1::ListOrchestratorsResponse orchestrators;
  auto* present = orchestrators.add_orchestrators();
  present->set_name("small");
  present->set_flavor("local");
  present->set_version(4);
  (*present->mutable_config()->mutable_fields())["cpu"].set_number_value(2);
  server_.list_orchestrators = Answer(orchestrators);
  v1::ListPoolsResponse pools;
  pools.add_pools()->set_name("db");
  pools.mutable_pools(0)->set_slots(2);
  server_.list_pools = Answer(pools);
  v1::ListStacksResponse stacks;
  stacks.add_stacks()->set_name("default");
  stacks.mutable_stacks(0)->set_orchestrator("default");
  server_.list_stacks = Answer(stacks);
  std::vector<std::string> sent;
  server_.set_pool = [&sent](const v1::SetPoolRequest& r, v1::Pool*) {
    sent.push_back(absl::StrCat("pool ", r.pool().name(), " ", r.pool().slots()));
    return grpc::Status::OK;
  };
  server_.register_orchestrator = [&sent](const v1::RegisterOrchestratorRequest& r, v1::Orchestrator*) {
    sent.push_back(absl::StrCat("register ", r.orchestrator().name()));
    return grpc::Status::OK;
  };
  server_.update_orchestrator = [&sent](const v1::UpdateOrchestratorRequest& r, v1::Orchestrator*) {
    sent.push_back(absl::StrCat("update ", r.orchestrator().name(), " v", r.orchestrator().version()));
    return grpc::Status::OK;
  };
  server_.set_stack = [&sent](const v1::SetStackRequest& r, v1::Stack*) {
    sent.push_back(absl::StrCat("stack ", r.stack().name(), " ", r.stack().is_default()));
    return grpc::Status::OK;
  };
  const std::string file = scratch_.Write(
      "site.yaml",
      "orchestrators:\n  - {name: small, flavor: local, config: {cpu: 3}}\n  - {name: big, flavor: local}\n"
      "pools: {db: 2, gpu: 1}\nstacks:\n  - {name: prod, orchestrator: big}\nsettings: {default_stack: prod}\n");
  const Result dry = Orchctl({"apply", "-f", file, "--dry-run"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("= pool db\n"));
  EXPECT_THAT(dry.out, HasSubstr("+ pool gpu: slots 1\n"));
  EXPECT_THAT(dry.out, HasSubstr("~ orchestrator small: config {\"cpu\":2} → {\"cpu\":3}\n"));
  EXPECT_THAT(dry.out, HasSubstr("+ orchestrator big: flavor local\n"));
  EXPECT_TRUE(sent.empty());
  const Result real = Orchctl({"apply", "-f", file});
  EXPECT_EQ(real.code, 0) << real.err;
  EXPECT_EQ(real.out, dry.out);
  EXPECT_THAT(sent, ElementsAre("pool gpu 1", "update small v4", "register big", "stack prod 1"));
}

TEST_F(OrchctlTest, ApplySaysWhatIsWrongWithTheFile) {
  const std::string file = scratch_.Write("site.yaml", "orchestrators:\n  - {name: x}\npools: {db: -1}\nstakcs: []\n");
  const Result result = Orchctl({"apply", "-f", file});
  EXPECT_EQ(result.code, 8);
  EXPECT_THAT(result.err, HasSubstr(file + ":2:"));
  EXPECT_THAT(result.err, HasSubstr(file + ":3:"));
  EXPECT_THAT(result.err, HasSubstr("did you mean `stacks`"));
}

// --- watching

v1::WatchRunsResponse StepEvent(const std::string& step, int64_t index, v1::Step::State state) {
  v1::WatchRunsResponse message;
  message.set_resume_token(absl::StrCat(step, state));
  v1::Event* event = message.mutable_event();
  event->mutable_time()->set_seconds(1'700'000'000 + index);
  event->set_type(v1::Event::STEP_STATE_CHANGED);
  event->set_step(step);
  event->set_step_index(index);
  event->set_attempt(1);
  event->set_step_state(state);
  return message;
}

class OrchctlWatchTest : public OrchctlTest {
 protected:
  OrchctlWatchTest() {
    server_.watch_runs = [](const v1::WatchRunsRequest& request, grpc::ServerContext*, const auto& send) {
      EXPECT_EQ(request.run(), "p-1");
      EXPECT_TRUE(request.until_done());
      v1::WatchRunsResponse snapshot;
      snapshot.set_resume_token("t0");
      *snapshot.mutable_snapshot()->add_runs() = MakeRun(v1::Run::RUNNING);
      snapshot.mutable_snapshot()->set_last(true);
      *snapshot.mutable_snapshot()->add_steps() = MakeStep("train[0]", 0, v1::Step::WAITING);
      *snapshot.mutable_snapshot()->add_steps() = MakeStep("train[1]", 1, v1::Step::WAITING);
      *snapshot.mutable_snapshot()->add_steps() = MakeStep("pick", 2, v1::Step::WAITING);
      send(snapshot);
      for (const v1::Step::State state : {v1::Step::RUNNING, v1::Step::SUCCEEDED}) {
        send(StepEvent("train[0]", 0, state));
        send(StepEvent("train[1]", 1, state));
      }
      v1::WatchRunsResponse failed = StepEvent("pick", 2, v1::Step::FAILED);
      failed.mutable_event()->set_reason(v1::Reason::EXIT_CODE);
      failed.mutable_event()->set_exit_code(3);
      failed.mutable_event()->set_message("it broke");
      send(failed);
      v1::WatchRunsResponse end;
      end.mutable_event()->set_type(v1::Event::RUN_STATE_CHANGED);
      end.mutable_event()->set_run_state(v1::Run::FAILED);
      send(end);
      return grpc::Status::OK;
    };
    v1::Run run = MakeRun(v1::Run::FAILED);
    (*run.mutable_step_counts())["FAILED"] = 1;
    server_.get_run = Answer(run);
    v1::ListStepsResponse steps;
    v1::Step pick = MakeStep("pick", 2, v1::Step::FAILED);
    pick.set_reason(v1::Reason::EXIT_CODE);
    pick.set_exit_code(3);
    pick.set_message("it broke");
    *steps.add_steps() = pick;
    server_.list_steps = Answer(steps);
    server_.tail_logs = [](const v1::TailLogsRequest&, grpc::ServerContext*, const auto& send) {
      v1::TailLogsResponse chunk;
      chunk.set_data("one\nlast words\n");
      send(chunk);
      return grpc::Status::OK;
    };
  }
};

TEST_F(OrchctlWatchTest, PlainLinesThenWhyItFailed) {
  const Result result = Orchctl({"watch-run", "p-1"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("22:13:20 train[0] RUNNING\n"));
  EXPECT_THAT(result.err, HasSubstr("22:13:22 pick FAILED (EXIT_CODE 3: it broke)\n"));
  EXPECT_THAT(result.err, HasSubstr("    | last words\n"));
  EXPECT_THAT(result.err, HasSubstr("orchctl logs p-1 'pick'"));
  EXPECT_THAT(result.err, HasSubstr("p-1 FAILED"));
  EXPECT_THAT(result.err, Not(HasSubstr("\x1b")));
}

TEST_F(OrchctlWatchTest, SubmitWatchPrintsTheNameAndEndsAsTheRunDid) {
  server_.submit_run = Answer(MakeRun(v1::Run::PENDING));
  const Result result = Orchctl({"submit", Pipeline(), "--watch"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "p-1\n");
  EXPECT_THAT(result.err, HasSubstr("train[1] SUCCEEDED"));
}

TEST_F(OrchctlWatchTest, QuietJsonIsOnlyTheRun) {
  const Result result = Orchctl({"watch-run", "p-1", "-q", "-o", "json"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(Json::parse(result.out)["state"], "FAILED");
}

TEST_F(OrchctlWatchTest, ALiveTableOnATerminalCollapsesFanOuts) {
  environment_["TERM"] = "xterm";
  const Result result = RunOnTerminal({ORCHCTL, "watch-run", "p-1"}, environment_, 24, 80);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("train[2] 2/2"));
  EXPECT_THAT(result.err, HasSubstr("\x1b[31mFAILED"));
  EXPECT_THAT(result.err, HasSubstr("last words"));
}

TEST_F(OrchctlWatchTest, CtrlCDetachesAndSaysHowToComeBack) {
  std::atomic<int> pid{0};
  const auto hold = [&pid](grpc::ServerContext* context) {
    // The client has connected, so its handler is in place.
    while (pid == 0) std::this_thread::yield();
    kill(pid, SIGINT);
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  server_.watch_runs = [&](const v1::WatchRunsRequest&, grpc::ServerContext* context, const auto&) {
    return hold(context);
  };
  const Result result = RunProgram({ORCHCTL, "watch-run", "p-1"}, environment_, "", [&pid](int p) { pid = p; });
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(Lines(result.err), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("orchctl watch-run p-1"));
  EXPECT_THAT(result.err, HasSubstr("orchctl cancel-run p-1"));
}

TEST_F(OrchctlWatchTest, NoColorIsHonoured) {
  environment_["TERM"] = "xterm";
  environment_["NO_COLOR"] = "1";
  const Result result = RunOnTerminal({ORCHCTL, "watch-run", "p-1"}, environment_, 24, 80);
  EXPECT_THAT(result.err, Not(HasSubstr("\x1b[31m")));
  EXPECT_THAT(result.err, HasSubstr("train[2] 2/2"));
}

}  // namespace
}  // namespace orch::client
