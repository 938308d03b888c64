// Which cluster a link goes to, as whom, and what a kubeconfig that is changed under it does.
#include "backends/kubernetes/cluster_link.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "backends/kubernetes/manifest.h"
#include "server/base/clock.h"
#include "tests/kubernetes/api_double.h"

namespace orch::kubernetes {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kPatience = 60'000'000;  // microseconds

// The entries of a kubeconfig.
struct Entries {
  std::string current = "work";
  std::string work = "{cluster: a, user: u, namespace: team}";
  std::string a, b;  // servers
  std::string user = "{token: t}";
};

class ClusterLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/orch-link-XXXXXX";
    folder_ = mkdtemp(name);
    config_.kubeconfig = folder_ + "/config";
  }
  void TearDown() override {
    link_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Write(const Entries& said) {
    const std::string fresh = config_.kubeconfig + ".new";
    std::ofstream(fresh) << "current-context: " << said.current << "\ncontexts:\n- {name: work, context: " << said.work
                         << "}\n- {name: other, context: {cluster: b, user: u, namespace: elsewhere}}\nclusters:\n"
                         << "- {name: a, cluster: {server: \"" << said.a << "\"}}\n- {name: b, cluster: {server: \""
                         << said.b << "\"}}\nusers:\n- {name: u, user: " << said.user << "}\n";
    std::filesystem::rename(fresh, config_.kubeconfig);
  }
  void Begin() {
    const auto nothing = [](const nlohmann::json&) {};
    link_ = std::make_unique<ClusterLink>(
        &config_, &JobsOfKubernetes(), "s=1",
        ClusterLink::Calls{[] {}, nothing, nothing, nothing, nothing, [](bool) {}, [](bool) {}, [] {},
                           [this](bool healthy, const std::string& why) { told_.push_back(healthy ? "well" : why); }});
    link_->Connect();
    link_->Begin();
  }
  bool Wait(const std::function<bool()>& done) {
    const int64_t end = Clock::Real().Now().mono + kPatience;
    while (!done() && Clock::Real().Now().mono < end) link_->Poll(20);
    return done();
  }

  std::string folder_;
  Config config_;
  std::unique_ptr<ClusterLink> link_;
  std::vector<std::string> told_;
};

// A server that lets in whoever has this among the fields of a request's head.
std::function<ApiDouble::Said(const ApiDouble::Asked&)> LetsIn(const std::string& field) {
  return [field](const ApiDouble::Asked& asked) -> ApiDouble::Said {
    if (absl::StrContains(asked.head, field)) return ApiDouble::Nothing();
    return {401, R"({"kind":"Status","status":"Failure","reason":"Unauthorized","code":401,"message":"who?"})"};
  };
}

TEST_F(ClusterLinkTest, AnotherCurrentContextAndAnotherNamespaceAreNotFollowedButNewCredentialsAre) {
  const ApiDouble a(LetsIn("Bearer fresh")), b(LetsIn("Bearer"));
  Entries said;
  said.a = a.url();
  said.b = b.url();
  Write(said);
  Begin();
  ASSERT_TRUE(Wait([&] { return !told_.empty(); }));
  EXPECT_THAT(told_.back(), HasSubstr("who?"));
  said.current = "other";
  said.work = "{cluster: a, user: u, namespace: other}";
  said.user = "{token: fresh}";
  Write(said);
  ASSERT_TRUE(Wait([&] { return link_->ready(); }));
  EXPECT_EQ(told_.back(), "well");
  EXPECT_THAT(b.asked(), IsEmpty());
  EXPECT_EQ(a.count("/namespaces/other/"), 0U);
  EXPECT_EQ(link_->space(), "team");
  EXPECT_EQ(link_->context(), "work");
}

TEST_F(ClusterLinkTest, AContextThatMeansAnotherClusterIsSaidAndNotFollowed) {
  const ApiDouble b(LetsIn("Bearer"));
  Entries said;
  {
    const ApiDouble a(LetsIn("Bearer"));
    said.a = a.url();
    said.b = b.url();
    Write(said);
    Begin();
    ASSERT_TRUE(Wait([&] { return link_->ready(); }));
  }
  said.work = "{cluster: b, user: u, namespace: team}";
  Write(said);
  ASSERT_TRUE(Wait([&] { return !told_.empty() && absl::StrContains(told_.back(), "means the cluster `b` now"); }));
  EXPECT_THAT(told_.back(), HasSubstr("what runs here is on `a`"));
  EXPECT_FALSE(link_->ready());
  const size_t times = told_.size();
  EXPECT_THAT(b.asked(), IsEmpty());
  const auto probed = FindCluster(config_, link_->kept());
  EXPECT_THAT(std::string(probed.status().message()), HasSubstr("means the cluster `b` now"));
  // It is put back, and its server is at another address.
  const ApiDouble a(LetsIn("Bearer"));
  said.work = "{cluster: a, user: u, namespace: team}";
  said.a = a.url();
  Write(said);
  ASSERT_TRUE(Wait([&] { return link_->ready(); }));
  EXPECT_EQ(told_.size(), times + 1) << "said once";
  EXPECT_GT(a.count("/namespaces/team/"), 0U);
  EXPECT_THAT(b.asked(), IsEmpty());
}

TEST_F(ClusterLinkTest, AContextThatIsGoneIsNamed) {
  Entries said;
  {
    const ApiDouble a(LetsIn("Bearer"));
    said.a = said.b = a.url();
    Write(said);
    Begin();
    ASSERT_TRUE(Wait([&] { return link_->ready(); }));
  }
  const ApiDouble b(LetsIn("Bearer"));
  std::ofstream(config_.kubeconfig) << "current-context: x\ncontexts: [{name: x, context: {cluster: a, user: u}}]\n"
                                    << "clusters: [{name: a, cluster: {server: \"" << b.url()
                                    << "\"}}]\nusers: [{name: u, user: {token: t}}]\n";
  ASSERT_TRUE(Wait([&] { return !told_.empty() && absl::StrContains(told_.back(), "keeps to context `work`"); }));
  EXPECT_THAT(b.asked(), IsEmpty());
}

TEST_F(ClusterLinkTest, WhomToActAsIsReadAgain) {
  const ApiDouble a(LetsIn("Impersonate-User: good"));
  Entries said;
  said.a = said.b = a.url();
  said.user = "{token: t, as: bad}";
  Write(said);
  Begin();
  ASSERT_TRUE(Wait([&] { return !told_.empty(); }));
  said.user = "{token: t, as: good}";
  Write(said);
  EXPECT_TRUE(Wait([&] { return link_->ready(); }));
}

TEST(MadeOfTest, HasEverythingThatAClientIsMadeOf) {
  Cluster cluster;
  cluster.identity.exec.emplace();
  std::string before = MadeOf(cluster);
  ServerAddress& server = cluster.server;
  Identity& who = cluster.identity;
  ExecPlugin& exec = *who.exec;
  const std::vector<std::function<void()>> changes = {[&] { server.url = "u"; },
                                                      [&] { server.ca_pem = "c"; },
                                                      [&] { server.tls_server_name = "n"; },
                                                      [&] { server.insecure = true; },
                                                      [&] { server.proxy = "p"; },
                                                      [&] { cluster.space = "s"; },
                                                      [&] { who.certificate_pem = "\xff"; },
                                                      [&] { who.key_pem = "k"; },
                                                      [&] { who.token_file = "f"; },
                                                      [&] { who.token = "t"; },
                                                      [&] { who.username = "u"; },
                                                      [&] { who.password = "p"; },
                                                      [&] { who.impersonation = {"a: b"}; },
                                                      [&] { exec.api_version = "v"; },
                                                      [&] { exec.command = "c"; },
                                                      [&] { exec.args = {"a"}; },
                                                      [&] {
                                                        exec.args = {"a", "b"};
                                                      },
                                                      [&] {
                                                        exec.env = {{"E", "1"}};
                                                      },
                                                      [&] {
                                                        exec.env = {{"E", "2"}};
                                                      },
                                                      [&] { exec.provide_cluster_info = true; },
                                                      [&] { who.exec.reset(); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    changes[i]();
    EXPECT_NE(MadeOf(cluster), before) << i;
    before = MadeOf(cluster);
    EXPECT_EQ(MadeOf(Cluster(cluster)), before);
  }
}

// Two of what is watched are refused: it is not well before both are there.
TEST_F(ClusterLinkTest, WhateverIsRefusedIsTriedUntilAllOfItIsLet) {
  Mutex mutex;
  std::set<std::string> refused = {"/pods", "/jobs"};
  const ApiDouble a([&](const ApiDouble::Asked& asked) -> ApiDouble::Said {
    MutexLock lock(&mutex);
    for (const std::string& part : refused) {
      if (absl::StrContains(asked.path, part)) return ApiDouble::Forbidden(part);
    }
    return ApiDouble::Nothing();
  });
  Entries said;
  said.a = said.b = a.url();
  Write(said);
  Begin();
  ASSERT_TRUE(Wait([&] { return !told_.empty(); }));
  {
    MutexLock lock(&mutex);
    refused.erase("/pods");
  }
  const size_t before = a.count("/jobs?limit=1");
  ASSERT_TRUE(Wait([&] { return a.count("/jobs?limit=1") > before; }));
  EXPECT_EQ(told_.size(), 1U);
  {
    MutexLock lock(&mutex);
    refused.clear();
  }
  ASSERT_TRUE(Wait([&] { return link_->ready(); }));
  EXPECT_THAT(told_, ElementsAre(HasSubstr("forbidden"), "well"));
}

}  // namespace
}  // namespace orch::kubernetes
