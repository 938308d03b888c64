// Two streams in one, and a log that goes on in another life of the daemon.
#include "backends/kubernetes/job_log.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "absl/strings/str_cat.h"
#include "server/base/stream_marks.h"
#include "tests/kubernetes/scripted_transport.h"

namespace orch::kubernetes {
namespace {

using ::testing::HasSubstr;

constexpr char kFence[] = "abcdefghij234567abcd";

struct Streams {
  std::string text[2];
  StreamSplitter::Take take() {
    return [this](bool error, std::string_view bytes) { text[error].append(bytes); };
  }
};

TEST(StreamMarks, WhatHasOnlyStdoutIsAsItWas) {
  StreamMarks marks(kFence);
  std::string out;
  marks.Put(false, "a\n", &out);
  marks.Put(false, "b", &out);
  EXPECT_EQ(out, "a\nb");
}

TEST(StreamMarks, InPiecesOfAnySize) {
  std::minstd_rand random(7);
  for (int round = 0; round < 300; ++round) {
    StreamMarks marks(kFence);
    std::string wanted[2];
    std::string whole;
    for (int i = 0; i < 20; ++i) {
      const bool error = random() % 2 == 0;
      std::string text;
      for (auto left = random() % 6; left > 0; --left) text.push_back("\x1b]6973;\a12x\n"[random() % 12]);
      if (random() % 7 == 0) text += "\x1b]6973;another;2\a";
      wanted[error] += text;
      marks.Put(error, text, &whole);
    }
    Streams got;
    auto splitter = std::make_unique<StreamSplitter>(kFence);
    for (size_t at = 0; at < whole.size();) {
      const size_t piece = 1 + random() % 9;
      splitter->Feed(std::string_view(whole).substr(at, piece), got.take());
      at += piece;
      splitter = std::make_unique<StreamSplitter>(kFence, splitter->state());  // another process
    }
    splitter->Flush(got.take());
    EXPECT_EQ(got.text[0], wanted[0]);
    EXPECT_EQ(got.text[1], wanted[1]);
  }
}

TEST(LogProgress, IsReadAsItWasWritten) {
  LogProgress progress;
  progress.position = {1767323046, 3, 17, 1767323046123456789};
  progress.out_bytes = 12;
  progress.err_bytes = 1 << 30;
  progress.streams = {true, "\x1b]69"};
  LogProgress read;
  ASSERT_TRUE(ReadProgress(WriteProgress(progress) + "   \n", &read));
  EXPECT_EQ(WriteProgress(read), WriteProgress(progress));
  for (const char* bad : {"", "1", "2 0 0 0 0 0 0 1 x", "1 0 0 0 0 0 0 3 x", "1 0 0 0 0 0 0 1 xz", "1 0 -1 0 0 0 0 1 x",
                          "1 0 0 0 0 0 0 1 xabc", "1 0 0 0 0 0 0 1 x x"}) {
    EXPECT_FALSE(ReadProgress(bad, &read)) << bad;
  }
}

class JobLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/k8s-job-log-XXXXXX";
    folder_ = mkdtemp(name);
    Start();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Start() {
    client_.reset();
    auto transport = std::make_unique<ScriptedTransport>(&clock_);
    transport_ = transport.get();
    client_ = std::make_unique<Client>(Cluster(), std::move(transport), &clock_, 1);
  }
  std::unique_ptr<JobLog> Open(int64_t limit = 0) {
    JobLog::Calls calls;
    calls.finished = [this] { ++finished_; };
    calls.over_limit = [this] { ++over_limit_; };
    calls.unwritable = [](const std::string& fault) { ADD_FAILURE() << fault; };
    return std::make_unique<JobLog>(client_.get(), "main", folder_ + "/run/4.1", kFence, limit, std::move(calls));
  }
  void Poll(int times = 20) {
    for (int i = 0; i < times; ++i) client_->Poll(0);
  }
  std::string File(const std::string& ending) {
    std::ifstream in(folder_ + "/run/4.1" + ending, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  static std::string Line(int second, const std::string& text) {
    return absl::StrCat("2026-01-02T03:04:0", second, ".5Z ", text);
  }
  static std::string Mark(int stream) { return absl::StrCat("\x1b]6973;", kFence, ";", stream, "\a"); }

  ScriptedClock clock_;
  ScriptedTransport* transport_ = nullptr;
  std::unique_ptr<Client> client_;
  std::string folder_;
  int finished_ = 0, over_limit_ = 0;
};

TEST_F(JobLogTest, GoesOnInAnotherLifeOfTheDaemon) {
  const std::string first = Line(1, "one\n") + Line(2, absl::StrCat(Mark(2), "bad"));
  Scripted& stream = transport_->Expect("GET", "/pods/p/log?container=main&timestamps=true&follow=true", 200);
  stream.pieces = {first.substr(0, 30), first.substr(30)};
  stream.open = true;
  auto log = Open();
  log->Follow("/pods/p");
  Poll();
  EXPECT_EQ(File(".out"), "one\n");
  EXPECT_EQ(File(".err"), "bad");
  log.reset();
  // What was written and not noted comes again.
  std::ofstream(folder_ + "/run/4.1.err", std::ios::app) << "torn";
  Start();
  transport_->Expect("GET", "sinceTime=2026-01-02T03%3A04%3A02Z", 200).pieces = {
      Line(2, absl::StrCat(Mark(2), "bad and worse\n")) + Line(3, absl::StrCat(Mark(1), "two\n"))};
  log = Open();
  log->Finish("/pods/p", false);
  Poll();
  EXPECT_EQ(finished_, 1);
  EXPECT_EQ(File(".out"), "one\ntwo\n");
  EXPECT_EQ(File(".err"), "bad and worse\n");
  EXPECT_EQ(log->fault(), "");
  EXPECT_TRUE(transport_->odd.empty());
}

TEST_F(JobLogTest, FilesThatWereCutAreReadAnew) {
  Scripted& stream = transport_->Expect("GET", "follow=true", 200);
  stream.pieces = {Line(1, "one\n")};
  stream.open = true;
  auto log = Open();
  log->Follow("/pods/p");
  Poll();
  log.reset();
  std::filesystem::resize_file(folder_ + "/run/4.1.out", 2);
  Start();
  transport_->Expect("GET", "/log", 200).pieces = {Line(1, "one\n") + Line(2, "two\n")};
  log = Open();
  log->Finish("/pods/p", false);
  Poll();
  EXPECT_EQ(File(".out"), "one\ntwo\n");
  EXPECT_THAT(transport_->seen[0].request.path, ::testing::Not(HasSubstr("sinceTime")));
}

TEST_F(JobLogTest, APodThatGoesAwayIsReadByTheStreamThatIsOpen) {
  Scripted& stream = transport_->Expect("GET", "follow=true", 200);
  stream.pieces = {Line(1, "one\n")};
  stream.open = true;
  auto log = Open();
  log->Follow("/pods/p");
  Poll();
  log->Finish("/pods/p", /*leaving=*/true);
  EXPECT_FALSE(transport_->seen[0].aborted);
  transport_->Push(0, Line(2, "two\n"));
  HttpAnswer end;
  end.status = 200;
  transport_->End(0, end);
  transport_->Expect("GET", "/log", 404, R"({"kind": "Status", "reason": "NotFound"})");
  Poll();
  EXPECT_EQ(finished_, 1);
  EXPECT_EQ(File(".out"), "one\ntwo\n");
  EXPECT_EQ(log->fault(), "") << "what the stream has brought is all";
}

TEST_F(JobLogTest, WhatCannotBeHadIsSaidAndNotWaitedForForEver) {
  transport_->Expect("GET", "/log", 404, R"({"kind": "Status", "reason": "NotFound", "message": "no pod"})");
  auto log = Open();
  log->Finish("/pods/p", false);
  Poll();
  EXPECT_EQ(finished_, 1);
  EXPECT_THAT(log->fault(), HasSubstr("no pod"));
  std::filesystem::remove_all(folder_ + "/run");
  transport_->Expect("GET", "/log", 200).open = true;
  log = Open();
  log->Finish("/pods/p", false);
  for (int i = 0; i < 10; ++i) client_->Poll(10'000);
  EXPECT_EQ(finished_, 2);
  EXPECT_THAT(log->fault(), HasSubstr("in 60 s"));
  std::filesystem::remove_all(folder_ + "/run");
  transport_->Expect("GET", "/log", 200).open = true;
  log = Open();
  log->Finish("/pods/p", /*leaving=*/true, /*silent=*/true);
  for (int i = 0; i < 10; ++i) client_->Poll(10'000);
  EXPECT_EQ(finished_, 3);
  EXPECT_THAT(log->fault(), HasSubstr("in 5 s"));
}

TEST_F(JobLogTest, HasALimit) {
  Scripted& stream = transport_->Expect("GET", "follow=true", 200);
  stream.pieces = {Line(1, "0123456789\n"), Line(1, "0123456789\n"), Line(1, "0123456789\n")};
  stream.open = true;
  auto log = Open(11);
  log->Follow("/pods/p");
  Poll(1);
  EXPECT_EQ(over_limit_, 0);
  Poll();
  EXPECT_EQ(over_limit_, 1) << "once";
  EXPECT_TRUE(log->was_over_limit());
  log.reset();
  Start();
  EXPECT_TRUE(Open(11)->was_over_limit()) << "in another life of the daemon, too";
  EXPECT_FALSE(Open(100)->was_over_limit());
}

TEST_F(JobLogTest, OneThatIsEndedReadsNothingMore) {
  Scripted& stream = transport_->Expect("GET", "follow=true", 200);
  stream.pieces = {Line(1, "one\n")};
  stream.open = true;
  auto log = Open();
  log->Follow("/pods/p");
  Poll();
  log->End("another pod has its name");
  EXPECT_EQ(finished_, 1);
  EXPECT_TRUE(transport_->seen[0].aborted);
  EXPECT_EQ(log->fault(), "another pod has its name");
  Poll();
  EXPECT_EQ(transport_->seen.size(), 1u);
  EXPECT_EQ(File(".out"), "one\n");
}

}  // namespace
}  // namespace orch::kubernetes
