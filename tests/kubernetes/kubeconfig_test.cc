// Kubeconfigs as people have them, and what a pod has.
#include "backends/kubernetes/api/kubeconfig.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace orch::kubernetes {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class KubeconfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/orch-kubeconfig-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::string folder_;
};

constexpr char kPlain[] = R"(apiVersion: v1
kind: Config
current-context: work
preferences: {}
contexts:
- {name: work, context: {cluster: c, user: u, namespace: team}}
- {name: bare, context: {cluster: c, user: ""}}
clusters:
- name: c
  cluster: {server: "https://h:6443/prefix/", certificate-authority-data: Q0E=, tls-server-name: api.internal, proxy-url: "socks5://p:1080"}
users:
- name: u
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ, as: robot, as-groups: [a, b], as-user-extra: {"x/y": [z]}}
)";

TEST_F(KubeconfigTest, ContextsAndInlineData) {
  const std::string file = Write("config", kPlain);
  const auto cluster = ReadKubeconfig({file}, "");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->context, "work");
  EXPECT_EQ(cluster->space, "team");
  EXPECT_EQ(cluster->server.url, "https://h:6443/prefix");
  EXPECT_EQ(cluster->server.ca_pem, "CA");
  EXPECT_EQ(cluster->server.tls_server_name, "api.internal");
  EXPECT_EQ(cluster->server.proxy, "socks5://p:1080");
  EXPECT_EQ(cluster->identity.certificate_pem, "CERT");
  EXPECT_EQ(cluster->identity.key_pem, "KEY");
  EXPECT_THAT(cluster->identity.impersonation, ElementsAre("Impersonate-User: robot", "Impersonate-Group: a",
                                                           "Impersonate-Group: b", "Impersonate-Extra-x%2Fy: z"));
  const auto bare = ReadKubeconfig({file}, "bare");
  ASSERT_TRUE(bare.ok()) << bare.status();
  EXPECT_EQ(bare->space, "default");
  EXPECT_TRUE(bare->identity.certificate_pem.empty());
}

TEST_F(KubeconfigTest, OfSeveralFilesTheFirstWinsAndThoseThatAreNotThereAreSkipped) {
  const std::string one =
      Write("one", "contexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: first}}]\n");
  const std::string two = Write("two",
                                "current-context: x\nusers: [{name: u, user: {token: second}}]\nclusters: [{name: c, "
                                "cluster: {server: 'http://h'}}]\n");
  const auto cluster = ReadKubeconfig({folder_ + "/none", one, two}, "");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->identity.token, "first");
  EXPECT_EQ(cluster->server.url, "http://h");
  const auto none = ReadKubeconfig({folder_ + "/none"}, "");
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(KubeconfigTest, PathsAreRelativeToTheFile) {
  Write("ca.crt", "AUTHORITY");
  Write("token", "secret");
  const std::string file =
      Write("config", R"({"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://h", "certificate-authority": "ca.crt"}}],
    "users": [{"name": "u", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/login", "args": ["a b"],
      "env": [{"name": "N", "value": "V"}], "interactiveMode": "Never", "provideClusterInfo": true}}}]})");
  const auto cluster = ReadKubeconfig({file}, "x");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->server.ca_pem, "AUTHORITY");
  ASSERT_TRUE(cluster->identity.exec.has_value());
  EXPECT_EQ(cluster->identity.exec->command, folder_ + "/bin/login");
  EXPECT_THAT(cluster->identity.exec->args, ElementsAre("a b"));
  EXPECT_TRUE(cluster->identity.exec->provide_cluster_info);
}

TEST_F(KubeconfigTest, AllFaultsAtOnceAndNoSecretInThem) {
  const std::string file = Write("config", R"(
contexts: [{name: x, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "h:6443", insecure-skip-tls-verify: true, certificate-authority-data: Q0E=}}]
users: [{name: u, user: {token: hush, username: me, client-key-data: S0VZ, auth-provider: {name: gcp}, exec: {apiVersion: v9, interactiveMode: Always}}}]
)");
  const auto cluster = ReadKubeconfig({file}, "x");
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string words(cluster.status().message());
  for (const char* part : {"https://", "contradict", "token and a password", "needs its key", "auth-provider",
                           "no command", "exec.apiVersion", "Always", "beside a token"}) {
    EXPECT_THAT(words, HasSubstr(part));
  }
  EXPECT_THAT(words, Not(HasSubstr("hush")));
  EXPECT_THAT(std::string(ReadKubeconfig({file}, "").status().message()), HasSubstr("no current-context"));
  EXPECT_THAT(std::string(ReadKubeconfig({file}, "y").status().message()), HasSubstr("it has x"));
}

TEST_F(KubeconfigTest, BrokenTextSaysWhere) {
  for (const auto& [text, part] :
       std::vector<std::pair<std::string, std::string>>{{"a: [", "line "},
                                                        {"a: 1\na: 2\n", "twice"},
                                                        {"- a\n", "mapping"},
                                                        {"a: &x 1\nb: *x\n", "aliases"},
                                                        {"contexts: 1\n", "line 1: contexts must be a list"},
                                                        {"users: [{user: {}}]\n", "no name"},
                                                        {"a: 1\n---\nb: 2\n", "second document"},
                                                        {std::string(200, '['), "deep"}}) {
    const auto config = ParseKubeconfig(text, "");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(part));
  }
  EXPECT_TRUE(ParseKubeconfig("", "").ok());
  EXPECT_FALSE(ParseKubeconfig(std::string((1 << 20) + 1, '#'), "").ok());
}

TEST_F(KubeconfigTest, APodFindsItsCluster) {
  EXPECT_EQ(ReadInCluster("", "", folder_).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadInCluster("fd00::1", "443", folder_).status().code(), absl::StatusCode::kFailedPrecondition);
  Write("ca.crt", "CA");
  Write("token", "t\n");
  Write("namespace", "team\n");
  const auto cluster = ReadInCluster("fd00::1", "443", folder_);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->server.url, "https://[fd00::1]:443");
  EXPECT_EQ(cluster->space, "team");
  EXPECT_EQ(cluster->identity.token_file, folder_ + "/token");
}

}  // namespace
}  // namespace orch::kubernetes
