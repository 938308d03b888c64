// Watches and logs against a scripted double: lists in pages, changes, breaks, versions that are too old, what comes
// again.
#include "backends/kubernetes/api/watch.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "backends/kubernetes/api/pod_log.h"
#include "tests/kubernetes/scripted_transport.h"

namespace orch::kubernetes {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kSecond = 1'000'000;

std::string Object(const std::string& name, const std::string& version) {
  return absl::StrCat(R"({"metadata":{"name":")", name, R"(","resourceVersion":")", version, R"("}})");
}
std::string Event(const std::string& type, const std::string& name, const std::string& version) {
  return absl::StrCat(R"({"type":")", type, R"(","object":)", Object(name, version), "}\n");
}
std::string List(const std::string& items, const std::string& version, const std::string& next = "") {
  return absl::StrCat(R"({"metadata":{"resourceVersion":")", version, R"(","continue":")", next, R"("},"items":[)",
                      items, "]}");
}
constexpr char kExpired[] =
    R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}})"
    "\n";

class WatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto transport = std::make_unique<ScriptedTransport>(&clock_);
    script_ = transport.get();
    client_ = std::make_unique<Client>(Cluster(), std::move(transport), &clock_, 1);
    watch_ = std::make_unique<Watch>(
        client_.get(), "/apis/batch/v1/namespaces/n/jobs", "a=b",
        Watch::Calls{[this] { told_.push_back("listing"); },
                     [this](const nlohmann::json& object) { told_.push_back("seen " + MetadataText(object, "name")); },
                     [this](const nlohmann::json& object) { told_.push_back("gone " + MetadataText(object, "name")); },
                     [this] { told_.push_back("listed"); },
                     [this](const Answer& answer) { told_.push_back("failed " + answer.Words()); }});
  }
  void TearDown() override {
    watch_.reset();
    client_.reset();
  }
  // Until so many requests were made, and all that they bring has come.
  void Run(size_t requests) {
    for (int i = 0; i < 100'000 && script_->seen.size() < requests; ++i) client_->Poll(1000);
    ASSERT_EQ(script_->seen.size(), requests);
    for (int i = 0; i < 20; ++i) client_->Poll(0);
  }
  Scripted& Stream(const std::vector<std::string>& pieces, bool open) {
    Scripted& step = script_->Expect("GET", "watch=1", 200);
    step.pieces = pieces;
    step.open = open;
    return step;
  }
  std::string path(size_t request) const { return script_->seen[request].request.path; }

  ScriptedClock clock_;
  ScriptedTransport* script_ = nullptr;
  std::unique_ptr<Client> client_;
  std::vector<std::string> told_;
  std::unique_ptr<Watch> watch_;
};

TEST_F(WatchTest, AListInPagesThenItsChanges) {
  script_->Expect("GET", "limit=500&labelSelector=a%3Db", 200, List(Object("a", "1"), "10", "next page"));
  script_->Expect("GET", "continue=next%20page", 200, List(Object("b", "2"), "11"));
  const std::string event = Event("MODIFIED", "a", "12");
  Stream({event.substr(0, 7), event.substr(7) + Event("DELETED", "b", "13") + Event("BOOKMARK", "", "20"),
          Event("ADDED", "c", "21")},
         true);
  watch_->Start();
  Run(3);
  EXPECT_THAT(told_, ElementsAre("listing", "seen a", "seen b", "listed", "seen a", "gone b", "seen c"));
  EXPECT_THAT(path(2), HasSubstr("resourceVersion=11&"));
  EXPECT_THAT(path(2), HasSubstr("allowWatchBookmarks=true"));
  // The server ends it as it has to: it goes on from the last version, and lists nothing.
  Stream({}, true);
  script_->End(2, {200, "", "", false, "", {}});
  Run(4);
  EXPECT_THAT(path(3), HasSubstr("resourceVersion=21&"));
  EXPECT_EQ(watch_->lists(), 1);
  watch_->Stop();
  EXPECT_TRUE(script_->seen[3].aborted);
}

TEST_F(WatchTest, ABookmarkAloneMovesTheVersion) {
  script_->Expect("GET", "limit=500", 200, List("", "10"));
  Stream({Event("BOOKMARK", "", "99")}, false);
  Stream({}, true);
  watch_->Start();
  Run(3);
  EXPECT_THAT(path(2), HasSubstr("resourceVersion=99&"));
  EXPECT_THAT(told_, ElementsAre("listing", "listed"));
}

TEST_F(WatchTest, AVersionTooOldIsListedAnewAtOnce) {
  script_->Expect("GET", "limit=500", 200, List(Object("a", "1"), "10"));
  Stream({kExpired}, false);  // as an event
  script_->Expect("GET", "limit=500", 200, List(Object("b", "2"), "50"));
  script_->Expect("GET", "watch=1", 410, R"({"kind":"Status","reason":"Gone","code":410})");  // as an answer
  script_->Expect("GET", "limit=500", 200, List(Object("b", "2"), "60"));
  Stream({}, true);
  watch_->Start();
  Run(6);
  EXPECT_THAT(told_,
              ElementsAre("listing", "seen a", "listed", "listing", "seen b", "listed", "listing", "seen b", "listed"));
  EXPECT_EQ(script_->seen[2].at, script_->seen[1].at) << "the first time there is no reason to wait";
  EXPECT_GT(script_->seen[4].at, script_->seen[3].at) << "again and again there is";
  EXPECT_THAT(path(5), HasSubstr("resourceVersion=60&"));
}

TEST_F(WatchTest, APageTooOldBeginsTheListAnew) {
  script_->Expect("GET", "limit=500", 200, List(Object("a", "1"), "10", "more"));
  script_->Expect("GET", "continue=more", 410, R"({"kind":"Status","reason":"Expired","code":410})");
  script_->Expect("GET", "limit=500", 200, List(Object("c", "3"), "20"));
  Stream({}, true);
  watch_->Start();
  Run(4);
  EXPECT_THAT(told_, ElementsAre("listing", "seen a", "listing", "seen c", "listed"));
  EXPECT_THAT(path(2), Not(HasSubstr("continue")));
}

TEST_F(WatchTest, CutOftenItIsOpenedEverMoreSeldomAndMissesNothing) {
  script_->Expect("GET", "limit=500", 200, List("", "10"));
  for (int i = 0; i < 5; ++i) script_->Expect("GET", "watch=1", 0, "connection reset");
  Stream({Event("ADDED", "a", "11")}, false);
  Stream({}, true);
  watch_->Start();
  Run(8);
  EXPECT_EQ(script_->seen[2].at, script_->seen[1].at);
  for (size_t i = 3; i < 6; ++i) {
    EXPECT_GT(script_->seen[i + 1].at - script_->seen[i].at, (script_->seen[i].at - script_->seen[i - 1].at) / 2) << i;
    EXPECT_THAT(path(i), HasSubstr("resourceVersion=10&"));
  }
  EXPECT_LT(script_->seen[7].at - script_->seen[6].at, kSecond) << "news came: all is well again";
  EXPECT_THAT(path(7), HasSubstr("resourceVersion=11&"));
  EXPECT_EQ(watch_->lists(), 1);
  EXPECT_THAT(told_, ElementsAre("listing", "listed", "failed connection reset", "failed connection reset",
                                 "failed connection reset", "failed connection reset", "seen a"))
      << "one that breaks is no failure, the next ones are";
}

TEST_F(WatchTest, AServerThatDoesNotAnswerIsToldOfHoweverLongItTakes) {
  script_->Expect("GET", "limit=500", 200, List("", "10"));
  for (int i = 0; i < 4; ++i) Stream({}, true);
  watch_->Start();
  const auto end = [&](size_t request, bool begun) {
    Run(request + 1);
    clock_.mono += 40 * kSecond;
    HttpAnswer broken;
    broken.failure = "Connection timed out";
    broken.begun = begun;
    script_->End(request, broken);
    Run(request + 2);
  };
  end(1, true);
  EXPECT_THAT(told_, ElementsAre("listing", "listed")) << "it was open for long: that it breaks is nothing";
  end(2, false);
  end(3, false);
  EXPECT_THAT(told_, ElementsAre("listing", "listed", "failed Connection timed out", "failed Connection timed out"));
  EXPECT_GT(script_->seen[4].at - script_->seen[3].at, 41 * kSecond) << "and not tried again at once";
}

TEST_F(WatchTest, WhatIsRefusedIsToldAndTriedAgain) {
  script_->Expect("GET", "limit=500", 403,
                  R"({"kind":"Status","reason":"Forbidden","message":"jobs.batch is forbidden: cannot list"})");
  script_->Expect("GET", "limit=500", 429, "Too many requests").answer.retry_after = "5";
  script_->Expect("GET", "limit=500", 200, "[]");
  script_->Expect("GET", "limit=500", 200, List("", "10"));
  script_->Expect("GET", "watch=1", 429, "Too many requests").answer.retry_after = "9";
  Stream({}, true);
  watch_->Start();
  Run(6);
  EXPECT_THAT(told_, ElementsAre("listing", "failed 403 Forbidden: jobs.batch is forbidden: cannot list", "listing",
                                 "failed 429: Too many requests", "listing", HasSubstr("is this an API server?"),
                                 "listing", "listed", "failed 429: Too many requests"));
  EXPECT_GE(script_->seen[2].at - script_->seen[1].at, 5 * kSecond);
  EXPECT_GE(script_->seen[5].at - script_->seen[4].at, 9 * kSecond);
}

TEST_F(WatchTest, NonsenseIsNotBelieved) {
  script_->Expect("GET", "limit=500", 200, List("", "10"));
  Stream({Event("ADDED", "a", "11"), "{\"type\":\"ODD\"}\n", Event("ADDED", "b", "12")}, true);
  script_->Expect("GET", "limit=500", 200, List(Object("b", "12"), "12"));
  Stream({}, true);
  watch_->Start();
  Run(4);
  EXPECT_THAT(told_,
              ElementsAre("listing", "listed", "seen a", HasSubstr("no watch event"), "listing", "seen b", "listed"));
  EXPECT_TRUE(script_->seen[1].aborted);
}

TEST(WatchStreamTest, AnyPiecesGiveTheSame) {
  const std::string all = Event("ADDED", "a", "1") + "\n" + Event("DELETED", "b", "2") + kExpired;
  for (size_t size = 1; size <= all.size(); ++size) {
    WatchStream stream;
    std::vector<std::string> got;
    for (size_t at = 0; at < all.size(); at += size) {
      ASSERT_TRUE(stream.Feed(absl::string_view(all).substr(at, size), [&](const WatchEvent& event) {
        got.push_back(absl::StrCat(static_cast<int>(event.type), MetadataText(event.object, "name"), event.version));
      }));
    }
    EXPECT_THAT(got, ElementsAre("0a1", "2b2", "4"));
    EXPECT_TRUE(stream.whole());
  }
  WatchStream stream;
  EXPECT_FALSE(stream.Feed(std::string(WatchStream::kLongestLine + 1, 'x'), [](WatchEvent) {}));
  EXPECT_FALSE(stream.Feed("\n", [](WatchEvent) {}));
}

std::string Stamped(const std::string& seconds, const std::string& text) {
  return absl::StrCat("2026-01-02T03:04:", seconds, "Z ", text, "\n");
}

class LinesTest : public ::testing::Test {
 protected:
  std::string Feed(StampedLines* lines, const std::string& bytes, size_t piece = 1000) {
    std::string out;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      lines->Feed(absl::string_view(bytes).substr(at, piece),
                  [&](absl::string_view text, int64_t) { out.append(text.data(), text.size()); });
    }
    return out;
  }
  // Equal stamps, a line that is earlier than the one before it, an empty one, and words of the node's.
  const std::string all_ = Stamped("05.1", "one") + Stamped("05.12", "two") + Stamped("05.12", "two") +
                           Stamped("05.11", "") + "failed to follow the log: it moved\n\n" +
                           Stamped("06", "three  spaces") + Stamped("07.000000001", "four");
  const std::string text_ = "one\ntwo\ntwo\n\nthree  spaces\nfour\n";
};

TEST_F(LinesTest, AnyPiecesGiveTheSame) {
  for (size_t piece = 1; piece < all_.size(); ++piece) {
    StampedLines lines(LogPosition{});
    EXPECT_EQ(Feed(&lines, all_, piece), text_);
  }
}

TEST_F(LinesTest, BrokenOffAnywhereNothingIsLostOrComesTwice) {
  for (size_t cut = 0; cut <= all_.size(); ++cut) {
    StampedLines lines(LogPosition{});
    std::string got = Feed(&lines, all_.substr(0, cut), 3);
    // The next daemon has only the position. The server gives what is not before its second.
    StampedLines next(lines.position());
    std::string again;
    for (size_t at = 0; at < all_.size();) {
      const size_t end = all_.find('\n', at) + 1;
      const std::string line = all_.substr(at, end - at);
      const int64_t second = line.size() > 20 ? line[18] - '0' : 9;
      if (lines.position().second == 0 || second >= lines.position().second % 10) again += line;
      at = end;
    }
    got += Feed(&next, again, 5);
    EXPECT_EQ(got, text_) << "cut at " << cut;
  }
}

TEST_F(LinesTest, AnotherFileBehindTheSecondHasNothingToPassOver) {
  StampedLines lines(LogPosition{});
  (void)Feed(&lines, Stamped("05.1", "one") + Stamped("05.2", "two") + "2026-01-02T03:04:05.3Z thr");
  lines.Restart();
  EXPECT_EQ(Feed(&lines, Stamped("05.4", "four") + Stamped("05.5", "five")), "four\nfive\n");
}

class PodLogTest : public WatchTest {
 protected:
  void Make(LogPosition from = {}) {
    log_ = std::make_unique<PodLog>(
        client_.get(), "/api/v1/namespaces/n/pods/p", "main", from,
        PodLog::Calls{[this](absl::string_view text, int64_t) { text_.append(text.data(), text.size()); },
                      [this] { told_.push_back("ended"); },
                      [this](const Answer& answer) { told_.push_back("failed " + answer.Words()); }});
  }
  void TearDown() override {
    log_.reset();
    WatchTest::TearDown();
  }
  std::string text_;
  std::unique_ptr<PodLog> log_;
};

TEST_F(PodLogTest, FollowedOverABreakToItsEnd) {
  Make();
  script_->Expect("GET", "/log?container=main&timestamps=true&follow=true", 400,
                  R"({"kind":"Status","message":"container is waiting to start"})");
  Scripted& first = script_->Expect("GET", "follow=true", 0, "reset");
  first.answer.status = 0;
  first.pieces = {Stamped("05.1", "one"), "2026-01-02T03:04:05.2Z tw"};
  Scripted& second = script_->Expect("GET", "follow=true&sinceTime=2026-01-02T03%3A04%3A05Z", 200);
  second.pieces = {Stamped("05.1", "one") + Stamped("05.2", "two")};
  second.open = true;
  log_->Start();
  Run(3);
  EXPECT_EQ(text_, "one\ntwo\n");
  Scripted& rest = script_->Expect("GET", "sinceTime=", 200);
  rest.pieces = {Stamped("05.1", "one") + Stamped("05.2", "two") + Stamped("06", "three")};
  log_->Finish();
  Run(4);
  EXPECT_EQ(text_, "one\ntwo\nthree\n");
  EXPECT_THAT(told_, ElementsAre("ended"));
  EXPECT_TRUE(script_->seen[2].aborted);
  EXPECT_THAT(path(3), Not(HasSubstr("follow")));
}

TEST_F(PodLogTest, APodThatIsGoneHasNoLog) {
  Make();
  script_->Expect("GET", "/log", 404, R"({"kind":"Status","reason":"NotFound","message":"pods \"p\" not found"})");
  log_->Finish();
  Run(1);
  EXPECT_THAT(told_, ElementsAre(HasSubstr("not found")));
}

TEST_F(PodLogTest, ANodeOutOfReachIsAskedAgain) {
  Make();
  script_->Expect("GET", "/log", 502, "dial tcp: connection refused");
  Scripted& rest = script_->Expect("GET", "/log", 200);
  rest.pieces = {Stamped("05", "one")};
  log_->Finish();
  Run(2);
  EXPECT_EQ(text_, "one\n");
  EXPECT_THAT(told_, ElementsAre("ended"));
}

}  // namespace
}  // namespace orch::kubernetes
