#include "tests/kubernetes/live_cluster.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr int64_t kPatience = 300'000'000;  // microseconds

}  // namespace

std::string Output(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr) << command;
  if (pipe == nullptr) return "";
  std::string out;
  char buffer[4096];
  while (const size_t got = fread(buffer, 1, sizeof(buffer), pipe)) out.append(buffer, got);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return std::string(absl::StripAsciiWhitespace(out));
}

void LiveTest::SetUp() {
  const char* file = getenv("ORCH_TEST_KUBECONFIG");
  if (file == nullptr) GTEST_SKIP() << "ORCH_TEST_KUBECONFIG names no cluster";
  auto cluster = ReadKubeconfig({file}, "");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  cluster_ = *std::move(cluster);
  jobs_ = absl::StrCat("/apis/batch/v1/namespaces/", cluster_.space, "/jobs");
  pods_ = absl::StrCat("/api/v1/namespaces/", cluster_.space, "/pods");
  name_ = absl::StrCat("live-", getpid(), "-", ::testing::UnitTest::GetInstance()->current_test_info()->line());
  client_ = Connect();
}

std::unique_ptr<Client> LiveTest::Connect(const std::function<void(Cluster*)>& change) {
  Cluster cluster = cluster_;
  if (change != nullptr) change(&cluster);
  auto transport = std::make_unique<CurlTransport>(cluster.server);
  return std::make_unique<Client>(std::move(cluster), std::move(transport), &Clock::Real(), 1);
}

std::string LiveTest::Part(const std::string& words) {
  const char* part = getenv("ORCH_TEST_PART");
  EXPECT_NE(part, nullptr) << "ORCH_TEST_PART says nothing";
  return part == nullptr ? "" : Output(absl::StrCat(part, " ", words));
}

std::string LiveTest::BoundToken(const std::string& secret) {
  const std::string kubectl = absl::StrCat("kubectl -n ", cluster_.space, " ");
  (void)Part(absl::StrCat(kubectl, "create secret generic ", secret));
  return Part(absl::StrCat(kubectl, "create token orchd --bound-object-kind Secret --bound-object-name ", secret));
}

bool LiveTest::Wait(Client* client, const std::function<bool()>& done) {
  const int64_t end = client->now() + kPatience;
  while (!done() && client->now() < end) client->Poll(100);
  return done();
}

Answer LiveTest::Ask(Client* client, Request request) {
  Answer out;
  bool done = false;
  client->Call(std::move(request), [&](Answer answer) {
    out = std::move(answer);
    done = true;
  });
  EXPECT_TRUE(Wait(client, [&] { return done; }));
  return out;
}

Answer LiveTest::Once(Request request) {
  request.tries = 1;
  return Ask(std::move(request));
}

std::string LiveTest::WhoAmI(Client* client) {
  Request review{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                 R"({"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"})"};
  review.tries = 1;
  const Answer answer = Ask(client, review);
  return answer.ok() ? answer.object.value("/status/userInfo/username"_json_pointer, "") : answer.Words();
}

json LiveTest::Job(const std::string& name, const std::string& script) {
  const json labels = {{"orch.io/test", name_}};
  const json container = {{"name", "main"}, {"image", "localhost/orch-test:1"}, {"command", {"/bin/sh", "-c", script}}};
  const json pod = {
      {"restartPolicy", "Never"}, {"terminationGracePeriodSeconds", 1}, {"containers", json::array({container})}};
  return {{"apiVersion", "batch/v1"},
          {"kind", "Job"},
          {"metadata", {{"name", name}, {"labels", labels}}},
          {"spec", {{"backoffLimit", 0}, {"template", {{"metadata", {{"labels", labels}}}, {"spec", pod}}}}}};
}

void LiveTest::Make(const std::string& name, const std::string& script) {
  const Answer made = Ask({"POST", jobs_, Job(name, script).dump()});
  EXPECT_EQ(made.code, 201) << made.Words();
}

void LiveTest::Delete(const std::string& name) {
  const Answer answer = Ask({"DELETE", absl::StrCat(jobs_, "/", name, "?propagationPolicy=Background")});
  EXPECT_TRUE(answer.ok()) << answer.Words();
}

}  // namespace orch::kubernetes
