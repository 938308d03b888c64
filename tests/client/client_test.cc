#include "client/lib/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "tests/client/scratch.h"
#include "tests/client/scripted_server.h"

namespace orch::client {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Client> Dial(const ScriptedServer& server, const std::string& token = "", ClientOptions options = {}) {
  Endpoint endpoint;
  endpoint.address = server.address();
  endpoint.token = token;
  endpoint.origin = "--server";
  endpoint.token_origin = "ORCH_TOKEN";
  return Client::ConnectTo(endpoint, options);
}

grpc::Status Away() { return grpc::Status(grpc::StatusCode::UNAVAILABLE, "starting"); }

TEST(ClientTest, AMutationIsRetriedUnderOneRequestId) {
  ScriptedServer server;
  std::vector<std::string> ids;
  server.submit_run = [&ids](const v1::SubmitRunRequest& request, v1::Run* run) {
    ids.push_back(request.request_id());
    if (ids.size() < 3) return Away();
    run->set_name("r");
    return grpc::Status::OK;
  };
  const auto run = Dial(server)->SubmitRun({});
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_FALSE(ids[0].empty());
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
}

TEST(ClientTest, TwoMutationsHaveTwoRequestIdsAndAGivenOneIsKept) {
  ScriptedServer server;
  std::vector<std::string> ids;
  server.submit_run = [&ids](const v1::SubmitRunRequest& request, v1::Run*) {
    ids.push_back(request.request_id());
    return grpc::Status::OK;
  };
  const auto client = Dial(server);
  ASSERT_TRUE(client->SubmitRun({}).ok());
  ASSERT_TRUE(client->SubmitRun({}).ok());
  v1::SubmitRunRequest request;
  request.set_request_id("mine");
  ASSERT_TRUE(client->SubmitRun(request).ok());
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_EQ(ids[2], "mine");
}

TEST(ClientTest, TheProjectOfTheOptionsIsFilledIn) {
  ScriptedServer server;
  std::string project;
  server.list_runs = [&project](const v1::ListRunsRequest& request, v1::ListRunsResponse*) {
    project = request.project();
    return grpc::Status::OK;
  };
  ClientOptions options;
  options.project = "vision";
  ASSERT_TRUE(Dial(server, "", options)->ListRuns({}).ok());
  EXPECT_EQ(project, "vision");
}

TEST(ClientTest, ABusyDaemonsDelayIsHonoured) {
  ScriptedServer server;
  std::vector<std::chrono::steady_clock::time_point> calls;
  server.get_run = [&calls](const v1::GetRunRequest&, v1::Run*) {
    calls.push_back(std::chrono::steady_clock::now());
    if (calls.size() == 1) return WireError(grpc::StatusCode::RESOURCE_EXHAUSTED, "BUSY", "busy", {}, 300);
    return grpc::Status::OK;
  };
  ASSERT_TRUE(Dial(server)->GetRun("r").ok());
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_GE(calls[1] - calls[0], milliseconds(300));
}

TEST(ClientTest, AFullDiskIsReportedAfterAFewTries) {
  ScriptedServer server;
  std::atomic<int> calls{0};
  server.submit_run = [&calls](const v1::SubmitRunRequest&, v1::Run*) {
    ++calls;
    return WireError(grpc::StatusCode::RESOURCE_EXHAUSTED, "DISK_FULL", "the disk is full", {}, 10);
  };
  const absl::Status status = Dial(server)->SubmitRun({}).status();
  EXPECT_EQ(ReasonOf(status), "DISK_FULL");
  EXPECT_GT(calls, 1);
  EXPECT_LT(calls, 20);
}

TEST(ClientTest, ALimitIsNotRetried) {
  ScriptedServer server;
  std::atomic<int> calls{0};
  server.submit_run = [&calls](const v1::SubmitRunRequest&, v1::Run*) {
    ++calls;
    return WireError(grpc::StatusCode::RESOURCE_EXHAUSTED, "STEPS_PER_RUN", "too many steps");
  };
  EXPECT_EQ(ReasonOf(Dial(server)->SubmitRun({}).status()), "STEPS_PER_RUN");
  EXPECT_EQ(calls, 1);
}

TEST(ClientTest, BadInputKeepsItsViolationsAndIsNotRetried) {
  ScriptedServer server;
  std::atomic<int> calls{0};
  server.submit_run = [&calls](const v1::SubmitRunRequest&, v1::Run*) {
    ++calls;
    return WireError(grpc::StatusCode::INVALID_ARGUMENT, "PIPELINE_INVALID", "2 faults",
                     {{"steps[1].inputs.x.from", "no such step", "UNKNOWN_REFERENCE"}, {"steps", "a cycle", "CYCLE"}});
  };
  const absl::Status status = Dial(server)->SubmitRun({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), "PIPELINE_INVALID");
  const auto violations = ViolationsOf(status);
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_EQ(violations[0].field, "steps[1].inputs.x.from");
  EXPECT_EQ(violations[0].reason, "UNKNOWN_REFERENCE");
  EXPECT_EQ(violations[1].description, "a cycle");
  EXPECT_EQ(calls, 1);
}

TEST(ClientTest, TheTokenIsSentAndAWrongOneExplained) {
  ScriptedServer server("127.0.0.1:0", "right");
  server.get_run = [](const v1::GetRunRequest&, v1::Run*) { return grpc::Status::OK; };
  EXPECT_TRUE(Dial(server, "right")->GetRun("r").ok());
  const absl::Status wrong = Dial(server, "wrong")->GetRun("r").status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("refused the token from ORCH_TOKEN"));
  EXPECT_THAT(std::string(wrong.message()), ::testing::Not(HasSubstr("wrong")));
  EXPECT_THAT(std::string(Dial(server, "")->GetRun("r").status().message()), HasSubstr("none was found"));
}

TEST(ClientTest, WorksOverAUnixSocket) {
  Scratch scratch;
  ScriptedServer server("unix:" + scratch.path() + "/s.sock", "t");
  server.get_run = [](const v1::GetRunRequest& request, v1::Run* run) {
    run->set_name(request.name());
    return grpc::Status::OK;
  };
  const auto run = Dial(server, "t")->GetRun("r");
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->name(), "r");
}

TEST(ClientTest, AnUnreachableServerIsReportedSoonAndInOneLine) {
  ScriptedServer server;
  const auto client = Dial(server);
  server.Stop();
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = client->GetRun("r").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), "SERVER_UNREACHABLE");
  EXPECT_THAT(std::string(status.message()), HasSubstr(server.address()));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(ClientTest, ASilentServerMeetsTheDeadline) {
  std::atomic<bool> over{false};  // the server's thread looks at it to its end
  ScriptedServer server;
  server.get_run = [&over](const v1::GetRunRequest&, v1::Run*) {
    while (!over) std::this_thread::yield();
    return grpc::Status::OK;
  };
  ClientOptions options;
  options.timeout = milliseconds(200);
  const absl::Status status = Dial(server, "", options)->GetRun("r").status();
  over = true;
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(status), "SERVER_SILENT");
}

TEST(ClientTest, WaitRunAsksAgainUntilTheEnd) {
  ScriptedServer server;
  int calls = 0;
  server.wait_run = [&calls](const v1::WaitRunRequest& request, v1::Run* run) {
    ++calls;
    run->set_name(request.name());
    if (calls == 2) return Away();
    run->set_state(calls < 4 ? v1::Run::RUNNING : v1::Run::SUCCEEDED);
    return grpc::Status::OK;
  };
  const auto run = Dial(server)->WaitRun("r", std::chrono::hours(1));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->state(), v1::Run::SUCCEEDED);
  EXPECT_EQ(calls, 4);
}

TEST(ClientTest, WaitRunAnswersTheStateWhenTheTimeIsOver) {
  ScriptedServer server;
  server.wait_run = [](const v1::WaitRunRequest&, v1::Run* run) {
    run->set_state(v1::Run::RUNNING);
    return grpc::Status::OK;
  };
  const auto run = Dial(server)->WaitRun("r", milliseconds(1));
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->state(), v1::Run::RUNNING);
}

v1::WatchRunsResponse EventMessage(int64_t sequence) {
  v1::WatchRunsResponse message;
  message.set_resume_token(absl::StrCat("t", sequence));
  message.mutable_event()->set_sequence(sequence);
  return message;
}

v1::WatchRunsResponse SnapshotMessage(bool last, const std::string& token) {
  v1::WatchRunsResponse message;
  message.set_resume_token(token);
  message.mutable_snapshot()->set_last(last);
  return message;
}

// What a watch got, as words, and the requests that the server saw.
struct WatchLog {
  std::vector<std::string> got;
  std::vector<v1::WatchRunsRequest> requests;
  OnWatch Recorder() {
    return [this](const v1::WatchRunsResponse& m) {
      got.push_back(m.has_event() ? absl::StrCat(m.event().sequence()) : m.has_snapshot() ? "snapshot" : "bookmark");
      return true;
    };
  }
};

TEST(WatchTest, ResumesWithTheLastTokenWithoutLossOrRepetition) {
  ScriptedServer server;
  WatchLog log;
  server.watch_runs = [&log](const v1::WatchRunsRequest& request, grpc::ServerContext*, const auto& send) {
    log.requests.push_back(request);
    if (log.requests.size() == 1) {
      send(SnapshotMessage(true, "t0"));
      send(EventMessage(1));
      return Away();
    }
    if (log.requests.size() == 2) return Away();
    send(EventMessage(2));
    return grpc::Status::OK;
  };
  v1::WatchRunsRequest request;
  request.set_run("r");
  request.set_snapshot(true);
  request.set_until_done(true);
  int troubles = 0;
  const absl::Status status =
      Dial(server)->WatchRuns(request, log.Recorder(), nullptr, [&troubles](const absl::Status&) { ++troubles; });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(log.got, ElementsAre("snapshot", "1", "2"));
  ASSERT_EQ(log.requests.size(), 3u);
  EXPECT_TRUE(log.requests[0].snapshot());
  for (int i : {1, 2}) {
    EXPECT_EQ(log.requests[i].resume_token(), "t1");
    EXPECT_FALSE(log.requests[i].snapshot());
    EXPECT_EQ(log.requests[i].run(), "r");
  }
  EXPECT_EQ(troubles, 2);
}

TEST(WatchTest, GoesOnWithTheNextDaemonOnTheSameSocket) {
  Scratch scratch;
  const std::string address = "unix:" + scratch.path() + "/s.sock";
  auto first = std::make_unique<ScriptedServer>(address);
  first->watch_runs = [](const v1::WatchRunsRequest&, grpc::ServerContext* context, const auto& send) {
    send(EventMessage(1));
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  const auto client = Dial(*first);
  WatchLog log;
  std::atomic<bool> seen{false};
  absl::Status status = absl::UnknownError("");
  v1::WatchRunsRequest request;
  request.set_until_done(true);
  std::thread watcher([&] {
    const auto record = log.Recorder();
    status = client->WatchRuns(request, [&](const v1::WatchRunsResponse& message) {
      seen = true;
      return record(message);
    });
  });
  while (!seen) std::this_thread::yield();
  first.reset();
  ScriptedServer second(address);
  second.watch_runs = [](const v1::WatchRunsRequest& resumed, grpc::ServerContext*, const auto& send) {
    EXPECT_EQ(resumed.resume_token(), "t1");
    send(EventMessage(2));
    return grpc::Status::OK;
  };
  second.get_run = [](const v1::GetRunRequest&, v1::Run*) { return grpc::Status::OK; };
  watcher.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(log.got, ElementsAre("1", "2"));
  EXPECT_TRUE(client->GetRun("r").ok());
}

TEST(WatchTest, HalfASnapshotIsAskedForAgain) {
  ScriptedServer server;
  WatchLog log;
  server.watch_runs = [&log](const v1::WatchRunsRequest& request, grpc::ServerContext*, const auto& send) {
    log.requests.push_back(request);
    send(SnapshotMessage(log.requests.size() > 1, "half"));
    return log.requests.size() == 1 ? Away() : grpc::Status::OK;
  };
  v1::WatchRunsRequest request;
  request.set_snapshot(true);
  request.set_until_done(true);
  ASSERT_TRUE(Dial(server)->WatchRuns(request, log.Recorder()).ok());
  ASSERT_EQ(log.requests.size(), 2u);
  EXPECT_TRUE(log.requests[1].snapshot());
  EXPECT_EQ(log.requests[1].resume_token(), "");
}

TEST(WatchTest, ALostPlaceBeginsAgainWithASnapshot) {
  ScriptedServer server;
  WatchLog log;
  server.watch_runs = [&log](const v1::WatchRunsRequest& request, grpc::ServerContext*, const auto& send) {
    log.requests.push_back(request);
    if (log.requests.size() == 1) {
      send(EventMessage(1));
      return Away();
    }
    if (!request.resume_token().empty()) {
      return WireError(grpc::StatusCode::OUT_OF_RANGE, "RESUME_TOKEN_COMPACTED", "gone");
    }
    send(SnapshotMessage(true, "t9"));
    return grpc::Status::OK;
  };
  v1::WatchRunsRequest request;
  request.set_until_done(true);
  ASSERT_TRUE(Dial(server)->WatchRuns(request, log.Recorder()).ok());
  EXPECT_THAT(log.got, ElementsAre("1", "snapshot"));
  EXPECT_TRUE(log.requests.back().snapshot());
}

TEST(WatchTest, ACallersOwnLostTokenIsAnError) {
  ScriptedServer server;
  server.watch_runs = [](const v1::WatchRunsRequest&, grpc::ServerContext*, const auto&) {
    return WireError(grpc::StatusCode::OUT_OF_RANGE, "RESUME_TOKEN_COMPACTED", "gone");
  };
  v1::WatchRunsRequest request;
  request.set_resume_token("old");
  EXPECT_EQ(ReasonOf(Dial(server)->WatchRuns(request, [](const auto&) { return true; })), "RESUME_TOKEN_COMPACTED");
}

TEST(WatchTest, SilenceBeginsAnew) {
  ScriptedServer server;
  WatchLog log;
  server.watch_runs = [&log](const v1::WatchRunsRequest& request, grpc::ServerContext* context, const auto& send) {
    log.requests.push_back(request);
    send(EventMessage(static_cast<int64_t>(log.requests.size())));
    if (log.requests.size() > 1) return grpc::Status::OK;
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::OK;
  };
  ClientOptions options;
  options.silence = milliseconds(150);
  v1::WatchRunsRequest request;
  request.set_until_done(true);
  ASSERT_TRUE(Dial(server, "", options)->WatchRuns(request, log.Recorder()).ok());
  EXPECT_THAT(log.got, ElementsAre("1", "2"));
}

TEST(WatchTest, CanBeCancelledFromAnotherThread) {
  ScriptedServer server;
  std::atomic<bool> open{false};
  server.watch_runs = [&open](const v1::WatchRunsRequest&, grpc::ServerContext* context, const auto& send) {
    send(EventMessage(1));
    open = true;
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  Cancellation cancel;
  std::thread canceller([&] {
    while (!open) std::this_thread::yield();
    cancel.Cancel();
  });
  EXPECT_TRUE(Dial(server)
                  ->WatchRuns(
                      {}, [](const auto&) { return true; }, &cancel)
                  .ok());
  canceller.join();
}

TEST(WatchTest, TheCallbackCanEndIt) {
  ScriptedServer server;
  server.watch_runs = [](const v1::WatchRunsRequest&, grpc::ServerContext*, const auto& send) {
    for (int64_t i = 1; send(EventMessage(i)); ++i) {
    }
    return grpc::Status::OK;
  };
  int seen = 0;
  EXPECT_TRUE(Dial(server)->WatchRuns({}, [&seen](const auto&) { return ++seen < 3; }).ok());
  EXPECT_EQ(seen, 3);
}

TEST(WatchTest, AnUnknownRunIsAnErrorAtOnce) {
  ScriptedServer server;
  server.watch_runs = [](const v1::WatchRunsRequest&, grpc::ServerContext*, const auto&) {
    return WireError(grpc::StatusCode::NOT_FOUND, "RUN_NOT_FOUND", "no run r");
  };
  EXPECT_EQ(ReasonOf(Dial(server)->WatchRuns({}, [](const auto&) { return true; })), "RUN_NOT_FOUND");
}

v1::TailLogsResponse Chunk(v1::LogStream::Name stream, const std::string& data, int64_t next) {
  v1::TailLogsResponse chunk;
  chunk.set_stream(stream);
  chunk.set_data(data);
  chunk.set_next_offset(next);
  chunk.set_attempt(2);
  return chunk;
}

TEST(LogsTest, ResumeAtTheByteOfEachStreamInTheSameAttempt) {
  ScriptedServer server;
  std::vector<v1::TailLogsRequest> requests;
  server.tail_logs = [&requests](const v1::TailLogsRequest& request, grpc::ServerContext*, const auto& send) {
    requests.push_back(request);
    if (requests.size() == 1) {
      send(Chunk(v1::LogStream::STDOUT, "abc", 3));
      send(Chunk(v1::LogStream::STDERR, "E", 1));
      return Away();
    }
    send(Chunk(v1::LogStream::STDOUT, "def", 6));
    return grpc::Status::OK;
  };
  std::string text;
  v1::TailLogsRequest request;
  request.set_follow(true);
  const absl::Status status = Dial(server)->TailLogs(request, [&text](const v1::TailLogsResponse& chunk) {
    text += chunk.data();
    return true;
  });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(text, "abcEdef");
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].stdout_offset(), 3);
  EXPECT_EQ(requests[1].stderr_offset(), 1);
  EXPECT_EQ(requests[1].attempt(), 2);
}

TEST(LogsTest, ATailResumesSilentStreamsWhereTheyWere) {
  ScriptedServer server;
  server.read_logs = [](const v1::ReadLogsRequest& request, v1::ReadLogsResponse* response) {
    response->set_next_offset(request.stream() == v1::LogStream::STDERR ? 500 : 100);
    return grpc::Status::OK;
  };
  std::vector<v1::TailLogsRequest> requests;
  server.tail_logs = [&requests](const v1::TailLogsRequest& request, grpc::ServerContext*, const auto& send) {
    requests.push_back(request);
    if (requests.size() > 1) return grpc::Status::OK;
    send(Chunk(v1::LogStream::STDOUT, "abc", 103));
    return Away();
  };
  v1::TailLogsRequest request;
  request.set_follow(true);
  request.set_tail_lines(5);
  ASSERT_TRUE(Dial(server)->TailLogs(request, [](const auto&) { return true; }).ok());
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].tail_lines(), 0);
  EXPECT_EQ(requests[1].stdout_offset(), 103);
  EXPECT_EQ(requests[1].stderr_offset(), 500);
}

TEST(ArtifactTest, DownloadsPieceByPiece) {
  ScriptedServer server;
  const std::string bytes = "0123456789";
  server.read_artifact = [&bytes](const v1::ReadArtifactRequest& request, v1::ReadArtifactResponse* response) {
    response->set_data(bytes.substr(static_cast<size_t>(request.offset()), 4));
    response->set_size(10);
    response->set_end(request.offset() + 4 >= 10);
    return grpc::Status::OK;
  };
  std::string got;
  ASSERT_TRUE(Dial(server)
                  ->DownloadArtifact("a@1",
                                     [&got](absl::string_view piece) {
                                       got.append(piece.data(), piece.size());
                                       return absl::OkStatus();
                                     })
                  .ok());
  EXPECT_EQ(got, bytes);
}

}  // namespace
}  // namespace orch::client
