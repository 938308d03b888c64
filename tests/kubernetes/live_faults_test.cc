// The client when a real API server is killed, too busy, out of reach, or has forgotten what it had.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "backends/kubernetes/api/pod_log.h"
#include "backends/kubernetes/api/watch.h"
#include "tests/kubernetes/live_cluster.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kTriesForLong = 100;

class LiveFaultTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (getenv("ORCH_TEST_PART") == nullptr) GTEST_SKIP() << "ORCH_TEST_PART does not say how";
  }
  void AwaitServer() {
    EXPECT_TRUE(Wait([&] {
      Request version{"GET", "/version"};
      version.tries = 1;
      version.seconds = 5;
      return Ask(version).ok();
    }));
  }
  Watch::Calls Known() {
    return {[this] { known_.clear(); }, [this](const json& job) { known_.insert(MetadataText(job, "name")); },
            [this](const json& job) { known_.erase(MetadataText(job, "name")); }, [] {},
            [this](const Answer& answer) { failures_.push_back(answer.Words()); }};
  }

  std::set<std::string> known_;
  std::vector<std::string> failures_;
};

TEST_F(LiveFaultTest, TheServerIsKilledAndNothingIsMissed) {
  Watch jobs(client_.get(), jobs_, Selector(), Known());
  jobs.Start();
  const std::string before = name_ + "-before", gone = name_ + "-gone", after = name_ + "-after";
  Make(before, "true");
  Make(gone, "true");
  EXPECT_TRUE(Wait([&] { return known_.size() == 2; }));
  // Nobody looks while one of them is deleted; the server that comes back knows nothing of it any more, and says 410.
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete job ", gone));
  (void)Part("restart apiserver");
  // Asked while it is away: it is repeated until it is back. A name that is taken was taken by a try before.
  Request create{"POST", jobs_, Job(after, "true").dump()};
  create.tries = kTriesForLong;
  const Answer made = Ask(create);
  EXPECT_TRUE(made.code == 201 || made.code == 409) << made.Words();
  const std::set<std::string> expected = {before, after};
  EXPECT_TRUE(Wait([&] { return known_ == expected; })) << known_.size();
  Delete(before);
  Delete(after);
  EXPECT_TRUE(Wait([&] { return known_.empty(); }));
  EXPECT_LE(jobs.lists(), 3);
}

TEST_F(LiveFaultTest, AVersionTooOldIsListedAnew) {
  Make(name_, "true");
  Watch jobs(client_.get(), jobs_, Selector(), Known());
  jobs.Start();
  EXPECT_TRUE(Wait([&] { return known_.size() == 1; }));
  const std::string old = jobs.version();
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " delete job ", name_));
  (void)Part("restart apiserver");
  AwaitServer();
  // As a request of its own, to see that this server does say so.
  std::string stream;
  Answer ended;
  bool done = false;
  (void)client_->Stream(
      {"GET", absl::StrCat(jobs_, "?watch=1&timeoutSeconds=5&resourceVersion=", old)},
      [&](absl::string_view piece) { stream.append(piece.data(), piece.size()); },
      [&](Answer answer) {
        ended = std::move(answer);
        done = true;
      });
  EXPECT_TRUE(Wait([&] { return done; }));
  WatchStream events;
  std::vector<WatchEvent> got;
  EXPECT_TRUE(events.Feed(stream, [&](WatchEvent event) { got.push_back(std::move(event)); }));
  ASSERT_EQ(got.size(), 1U) << stream << ended.Words();
  EXPECT_EQ(got[0].type, WatchEvent::Type::kError);
  EXPECT_EQ(got[0].object["code"], 410);
  EXPECT_TRUE(Wait([&] { return known_.empty() && jobs.lists() == 2; })) << known_.size() << " " << jobs.lists();
}

TEST_F(LiveFaultTest, APageThatIsForgottenIsExpired) {
  for (int i = 0; i < 3; ++i) Make(absl::StrCat(name_, "-", i), "true");
  const std::string list = absl::StrCat(jobs_, "?limit=1&labelSelector=", UrlEscape(Selector()));
  const Answer first = Ask({"GET", list});
  const std::string next = MetadataText(first.object, "continue");
  ASSERT_FALSE(next.empty()) << first.Words();
  Make(name_ + "-3", "true");
  const Answer later = Ask({"GET", jobs_ + "?limit=1"});
  const std::string compact = absl::StrCat("{\"revision\":\"", MetadataText(later.object, "resourceVersion"), "\"}");
  (void)Part(absl::StrCat("in curl -fsS --noproxy '*' -d '", compact, "' http://127.0.0.1:2379/v3/kv/compaction"));
  (void)Part("restart apiserver");
  AwaitServer();
  const Answer expired = Ask({"GET", absl::StrCat(list, "&continue=", UrlEscape(next))});
  EXPECT_EQ(expired.code, 410) << expired.Words();
  EXPECT_TRUE(expired.expired());
  for (int i = 0; i < 4; ++i) Delete(absl::StrCat(name_, "-", i));
}

TEST_F(LiveFaultTest, ALogGoesOnOverTheServersDeath) {
  Make(name_,
       "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; [ $((i%3)) = 0 ] && echo err $i >&2; sleep 0.03; done");
  std::string pod, log;
  bool ended = false;
  std::unique_ptr<PodLog> follower;
  Watch pods(
      client_.get(), pods_, Selector(),
      {[] {},
       [&](const json& object) {
         const std::string phase = object.value("/status/phase"_json_pointer, "");
         if (follower == nullptr && phase == "Running") {
           follower = std::make_unique<PodLog>(
               client_.get(), absl::StrCat(pods_, "/", MetadataText(object, "name")), "main", LogPosition{},
               PodLog::Calls{[&](absl::string_view text, int64_t) { log.append(text.data(), text.size()); },
                             [&] { ended = true; }, [](const Answer& answer) { ADD_FAILURE() << answer.Words(); }});
           follower->Start();
         }
         if (follower != nullptr && (phase == "Succeeded" || phase == "Failed")) follower->Finish();
       },
       [](const json&) {}, [] {}, [](const Answer&) {}});
  pods.Start();
  EXPECT_TRUE(Wait([&] { return log.size() > 200; }));
  (void)Part("restart apiserver");
  EXPECT_TRUE(Wait([&] { return ended; }));
  std::string out, err;
  for (int i = 1; i <= 300; ++i) {
    absl::StrAppend(&out, "line ", i, "\n");
    if (i % 3 == 0) absl::StrAppend(&err, "err ", i, "\n");
  }
  std::string got_out, got_err;
  for (size_t at = 0; at < log.size();) {
    const size_t end = log.find('\n', at) + 1;
    ASSERT_NE(end, 0U) << log.substr(at);
    (log.compare(at, 3, "err") == 0 ? got_err : got_out) += log.substr(at, end - at);
    at = end;
  }
  EXPECT_EQ(got_out, out);
  EXPECT_EQ(got_err, err);
  Delete(name_);
}

TEST_F(LiveFaultTest, AServerWithoutItsStoreIsAskedAgain) {
  (void)Part("pause etcd");
  Request create{"POST", jobs_, Job(name_, "true").dump()};
  create.tries = 1;
  create.seconds = 3;
  const Answer nothing = Ask(create);
  EXPECT_TRUE(nothing.later()) << nothing.Words();
  EXPECT_FALSE(nothing.unheard) << "it may have been made";
  (void)Part("resume etcd");
  create.tries = kTriesForLong;
  create.seconds = 30;
  const Answer made = Ask(create);
  EXPECT_TRUE(made.code == 201 || made.reason == "AlreadyExists") << made.Words();
  Delete(name_);
}

TEST_F(LiveFaultTest, OutOfReachForAMinuteAndNobodySaysSo) {
  Watch jobs(client_.get(), jobs_, Selector(), Known());
  jobs.Start();
  EXPECT_TRUE(Wait([&] { return jobs.lists() == 1; }));
  // Packets vanish, in both directions: no connection is refused or reset, and nothing that the server still says
  // comes through.
  const std::string to = " INPUT -i orchkin -p tcp --dport 6443 -j DROP";
  const std::string from = " OUTPUT -o orchkin -p tcp --sport 6443 -j DROP";
  for (const std::string& drop : {to, from}) (void)Part("in iptables-legacy -w -I" + drop);
  const int64_t began = client_->now();
  Request quick{"GET", jobs_};
  quick.tries = 1;
  quick.seconds = 3;
  EXPECT_EQ(Ask(quick).code, 0);
  EXPECT_LT(client_->now() - began, 60'000'000);
  EXPECT_TRUE(Wait([&] { return client_->now() - began > 65'000'000; }));
  // One is made meanwhile behind our back.
  const std::string file = absl::StrCat(::testing::TempDir(), name_, ".json");
  std::ofstream(file) << Job(name_, "true").dump();
  (void)Part(absl::StrCat("kubectl -n ", cluster_.space, " create -f ", file));
  unlink(file.c_str());
  for (const std::string& drop : {to, from}) (void)Part("in iptables-legacy -w -D" + drop);
  const int64_t back = client_->now();
  EXPECT_TRUE(Wait([&] { return known_.count(name_) == 1; })) << "the dead connection was noticed, and a new one made";
  EXPECT_LT(client_->now() - back, 90'000'000);
  EXPECT_FALSE(failures_.empty()) << "somebody is told";
  Delete(name_);
}

// test_platform.py holds the one seat that a service account has, until ORCH_TEST_RELEASE has been run.
TEST_F(LiveFaultTest, TooBusyIsWaitedFor) {
  const char* release = getenv("ORCH_TEST_RELEASE");
  if (release == nullptr) GTEST_SKIP() << "ORCH_TEST_RELEASE says nothing";
  const Answer busy = Once({"GET", jobs_});
  EXPECT_EQ(busy.code, 429);
  EXPECT_EQ(busy.retry_after, 1'000'000);
  EXPECT_THAT(busy.message, HasSubstr("Too many requests"));
  Watch jobs(client_.get(), jobs_, Selector(), Known());
  jobs.Start();
  bool made = false;
  Request create{"POST", jobs_, Job(name_, "true").dump()};
  create.tries = kTriesForLong;
  client_->Call(create, [&](const Answer& answer) {
    EXPECT_EQ(answer.code, 201) << answer.Words();
    made = true;
  });
  EXPECT_TRUE(Wait([&] { return failures_.size() >= 2; }));
  EXPECT_FALSE(made);
  (void)Output(release);
  EXPECT_TRUE(Wait([&] { return made && known_.count(name_) == 1; }));
  Delete(name_);
}

}  // namespace
}  // namespace orch::kubernetes
