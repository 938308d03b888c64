// The transport over libcurl against a server of the test's: certificates of both sides, names, proxies, streams.
// ORCH_TEST_TRANSPORT_KUBECONFIG has a context for each; tests/kubernetes/test_transport.py writes it and runs this.
#include <gmock/gmock.h>

#include <cstdlib>
#include <thread>

#include "backends/kubernetes/api/client.h"
#include "backends/kubernetes/api/curl_transport.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr int64_t kPatience = 120'000'000;  // microseconds

class TransportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = getenv("ORCH_TEST_TRANSPORT_KUBECONFIG");
    if (file_ == nullptr) GTEST_SKIP() << "ORCH_TEST_TRANSPORT_KUBECONFIG names no server";
  }
  void Use(const std::string& context) {
    auto cluster = ReadKubeconfig({file_}, context);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    auto transport = std::make_unique<CurlTransport>(cluster->server);
    client_ = std::make_unique<Client>(*std::move(cluster), std::move(transport), &Clock::Real(), 1);
  }
  bool Wait(const std::function<bool()>& done) {
    const int64_t end = client_->now() + kPatience;
    while (!done() && client_->now() < end) client_->Poll(1000);
    return done();
  }
  Answer Ask(Request request) {
    Answer out;
    bool done = false;
    client_->Call(std::move(request), [&](Answer answer) {
      out = std::move(answer);
      done = true;
    });
    EXPECT_TRUE(Wait([&] { return done; }));
    return out;
  }
  Answer Once(const std::string& path) {
    Request request{"GET", path};
    request.tries = 1;
    return Ask(std::move(request));
  }

  const char* file_ = nullptr;
  std::unique_ptr<Client> client_;
};

TEST_F(TransportTest, ACertificateAndATokenBothArrive) {
  Use("good");
  const Answer answer = Once("/what?x=%2F");
  ASSERT_TRUE(answer.ok()) << answer.Words();
  EXPECT_EQ(answer.object["peer"], "admin");
  EXPECT_EQ(answer.object["path"], "/prefix/what?x=%2F");
  EXPECT_EQ(answer.object["authorization"], "Bearer t");
  EXPECT_EQ(answer.object["group"], json({"a", "b"}));
  const Answer posted = Ask({"POST", "/p", R"({"a":1})"});
  EXPECT_EQ(posted.object["body"], R"({"a":1})");
  EXPECT_EQ(posted.object["type"], "application/json");
  Request patch{"PATCH", "/p", "[]", "application/merge-patch+json"};
  EXPECT_EQ(Ask(patch).object["type"], "application/merge-patch+json");
  EXPECT_EQ(Ask({"DELETE", "/p"}).object["method"], "DELETE");
}

TEST_F(TransportTest, ANameOfItsOwnIsAskedForAndChecked) {
  Use("named");
  const Answer answer = Once("/what");
  ASSERT_TRUE(answer.ok()) << answer.Words();
  EXPECT_EQ(answer.object["sni"], "kubernetes");
  Use("misnamed");
  const Answer refused = Once("/what");
  EXPECT_EQ(refused.code, 0);
  EXPECT_TRUE(refused.unheard) << refused.message;
}

TEST_F(TransportTest, OnlyTheAuthorityThatIsNamedIsBelieved) {
  Use("stranger");
  const Answer refused = Once("/what");
  EXPECT_EQ(refused.code, 0);
  EXPECT_TRUE(refused.unheard);
  EXPECT_THAT(refused.message, HasSubstr("certificate"));
  Use("insecure");
  EXPECT_TRUE(Once("/what").ok());
}

TEST_F(TransportTest, AProxyIsUsed) {
  Use("proxied");
  const Answer answer = Once("/what");
  ASSERT_TRUE(answer.ok()) << answer.Words();
  EXPECT_EQ(answer.object["path"], "http://api.invalid:8080/what");
}

TEST_F(TransportTest, NobodyListens) {
  Use("nobody");
  const Answer answer = Once("/what");
  EXPECT_EQ(answer.code, 0);
  EXPECT_TRUE(answer.unheard) << answer.message;
  // Those who wait for the same connection learn the same, and not one after the other.
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    Request request{"GET", "/what"};
    request.tries = 1;
    client_->Call(request, [&](const Answer& other) { refused += other.unheard ? 1 : 0; });
  }
  EXPECT_TRUE(Wait([&] { return refused == 200; }));
}

TEST_F(TransportTest, RefusalsBreaksAndPausesAreTold) {
  Use("good");
  const Answer busy = Once("/busy");
  EXPECT_EQ(busy.code, 429);
  EXPECT_EQ(busy.retry_after, 3'000'000);
  EXPECT_EQ(busy.message, "Too many requests");
  ASSERT_EQ(busy.warnings.size(), 1U);
  EXPECT_EQ(busy.warnings[0], "299 - \"old\"");
  const Answer cut = Once("/cut");
  EXPECT_EQ(cut.code, 0);
  EXPECT_FALSE(cut.unheard) << "it may have happened";
  Request slow{"GET", "/hang"};
  slow.seconds = slow.tries = 1;
  EXPECT_EQ(Ask(slow).code, 0);
}

TEST_F(TransportTest, AStreamComesAsItComesAndCanBeLeft) {
  Use("good");
  std::string got;
  bool over = false;
  client_->Stream(
      {"GET", "/stream", "", "", 0}, [&](absl::string_view piece) { got.append(piece.data(), piece.size()); },
      [&](const Answer& answer) { over = answer.ok(); });
  EXPECT_TRUE(Wait([&] { return over; }));
  EXPECT_EQ(got, "one\ntwo\nthree\n");
  got.clear();
  over = false;
  const uint64_t endless = client_->Stream(
      {"GET", "/hang", "", "", 0}, [&](absl::string_view piece) { got.append(piece.data(), piece.size()); },
      [&](const Answer&) { over = true; });
  EXPECT_TRUE(Wait([&] { return got == "begun\n"; }));
  client_->Abort(endless);
  EXPECT_TRUE(Once("/what").ok());
  EXPECT_FALSE(over);
  // A stream that is an error has its body.
  Answer refused;
  client_->Stream(
      {"GET", "/busy", "", "", 0}, [&](absl::string_view) { ADD_FAILURE(); },
      [&](Answer answer) { refused = std::move(answer); });
  EXPECT_TRUE(Wait([&] { return refused.code != 0; }));
  EXPECT_EQ(refused.message, "Too many requests");
}

TEST_F(TransportTest, AnotherThreadWakesIt) {
  Use("good");
  EXPECT_TRUE(Once("/what").ok());
  const int64_t begun = client_->now();
  std::thread other([&] { client_->Wake(); });
  client_->Poll(60'000);
  other.join();
  EXPECT_LT(client_->now() - begun, 50'000'000);
}

}  // namespace
}  // namespace orch::kubernetes
