#include "client/lib/discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "tests/client/scratch.h"
#include "tests/client/scripted_server.h"

extern char** environ;

namespace orch::client {
namespace {

using ::testing::HasSubstr;

class DiscoveryTest : public ::testing::Test {
 protected:
  ScopedEnv server_{"ORCH_SERVER", std::nullopt};
  ScopedEnv token_{"ORCH_TOKEN", std::nullopt};
  ScopedEnv token_file_{"ORCH_TOKEN_FILE", std::nullopt};
  ScopedEnv ca_{"ORCH_CA", std::nullopt};
  ScopedEnv dir_{"ORCH_DATA_DIR", std::nullopt};
  ScopedEnv xdg_{"XDG_DATA_HOME", std::nullopt};
  Scratch scratch_;
};

std::string ServerJson(const std::string& grpc, const std::string& socket, int64_t pid) {
  return absl::StrCat(R"({"grpc": ")", grpc, R"(", "http": "http://127.0.0.1:1", "grpc_unix": ")", socket,
                      R"(", "http_unix": "", "pid": )", pid, R"(, "version": "0.1.0"})");
}

TEST_F(DiscoveryTest, DataDirFollowsFlagThenVariableThenXdgThenHome) {
  ScopedEnv home("HOME", "/home/ada");
  EXPECT_EQ(*DataDir({}), "/home/ada/.local/share/orchd");
  ScopedEnv xdg("XDG_DATA_HOME", "/xdg");
  EXPECT_EQ(*DataDir({}), "/xdg/orchd");
  ScopedEnv dir("ORCH_DATA_DIR", "/var/orchd");
  EXPECT_EQ(*DataDir({}), "/var/orchd");
  DiscoveryOptions options;
  options.data_dir = "/flag";
  EXPECT_EQ(*DataDir(options), "/flag");
}

TEST_F(DiscoveryTest, WithoutHomeItSaysWhatToSet) {
  ScopedEnv home("HOME", std::nullopt);
  EXPECT_EQ(ReasonOf(Discover({}).status()), "DATA_DIR_UNKNOWN");
}

TEST_F(DiscoveryTest, PrefersTheSocketThatAnswers) {
  const std::string socket = scratch_.path() + "/grpc.sock";
  ScriptedServer server("unix:" + socket);
  scratch_.Write("server.json", ServerJson("127.0.0.1:7", socket, getpid()));
  scratch_.Write("token", "secret\n");
  DiscoveryOptions options;
  options.data_dir = scratch_.path();
  const auto endpoint = Discover(options);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(endpoint->address, "unix:" + socket);
  EXPECT_EQ(endpoint->token, "secret");
  EXPECT_EQ(endpoint->pid, getpid());
}

TEST_F(DiscoveryTest, TcpWhenThereIsNoSocket) {
  scratch_.Write("server.json", ServerJson("127.0.0.1:7117", "", getpid()));
  DiscoveryOptions options;
  options.data_dir = scratch_.path();
  EXPECT_EQ(Discover(options)->address, "127.0.0.1:7117");
}

TEST_F(DiscoveryTest, ASocketThatNobodyListensOnIsNoDaemon) {
  const std::string socket = scratch_.path() + "/grpc.sock";
  // The pid lives (it is ours), as after the daemon's number was given to another process.
  scratch_.Write("grpc.sock", "");
  scratch_.Write("server.json", ServerJson("127.0.0.1:7", socket, getpid()));
  DiscoveryOptions options;
  options.data_dir = scratch_.path();
  EXPECT_EQ(ReasonOf(Discover(options).status()), "DAEMON_NOT_RUNNING");
}

TEST_F(DiscoveryTest, ADeadPidIsNoDaemon) {
  char name[] = "/bin/true";
  char* argv[] = {name, nullptr};
  pid_t pid = 0;
  ASSERT_EQ(posix_spawn(&pid, name, nullptr, nullptr, argv, environ), 0);
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  scratch_.Write("server.json", ServerJson("127.0.0.1:7", "", pid));
  DiscoveryOptions options;
  options.data_dir = scratch_.path();
  const absl::Status status = Discover(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), "DAEMON_NOT_RUNNING");
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("process ", pid)));
}

TEST_F(DiscoveryTest, GivenServerWinsAndTakesTheTokenOfTheDataDir) {
  scratch_.Write("token", "from-dir");
  ScopedEnv dir("ORCH_DATA_DIR", scratch_.path());
  ScopedEnv server("ORCH_SERVER", "127.0.0.1:5000");
  EXPECT_EQ(Discover({})->address, "127.0.0.1:5000");
  EXPECT_EQ(Discover({})->token, "from-dir");
  EXPECT_TRUE(ServerGiven({}));
  ScopedEnv token("ORCH_TOKEN", "from-env");
  EXPECT_EQ(Discover({})->token, "from-env");
  DiscoveryOptions options;
  options.server = "unix:/run/x.sock";
  options.token_file = scratch_.Write("other", "from-file\n");
  EXPECT_EQ(Discover(options)->address, "unix:/run/x.sock");
  EXPECT_EQ(Discover(options)->token, "from-file");
}

TEST_F(DiscoveryTest, ATokenWithControlCharactersIsRefusedHere) {
  ScopedEnv server("ORCH_SERVER", "127.0.0.1:5000");
  ScopedEnv token("ORCH_TOKEN", "two\nlines");
  EXPECT_EQ(ReasonOf(Discover({}).status()), "TOKEN_UNREADABLE");
}

TEST_F(DiscoveryTest, Addresses) {
  EXPECT_EQ(*NormalAddress("127.0.0.1:80"), "127.0.0.1:80");
  EXPECT_EQ(*NormalAddress("localhost:80"), "localhost:80");
  EXPECT_EQ(*NormalAddress("[::1]:80"), "[::1]:80");
  EXPECT_EQ(*NormalAddress("/run/orchd.sock"), "unix:/run/orchd.sock");
  EXPECT_EQ(*NormalAddress("unix:///run/orchd.sock"), "unix:/run/orchd.sock");
  for (const char* bad : {"", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:80",
                          "10.0.0.1:80", "example.org:80", "unix:", "https://example.org", "https://:80",
                          "https://example.org:80/path", "https://ada@example.org:80", "https://example.org:80?x"}) {
    EXPECT_EQ(ReasonOf(NormalAddress(bad).status()), "SERVER_ADDRESS_INVALID") << bad;
  }
  EXPECT_FALSE(NormalAddress("unix:/" + std::string(200, 'x')).ok());
  EXPECT_EQ(*NormalAddress("https://example.org:7433/"), "https://example.org:7433");
  EXPECT_EQ(*NormalAddress("https://[2001:db8::1]:7433"), "https://[2001:db8::1]:7433");
}

TEST_F(DiscoveryTest, TheDataDirectorysTokenStaysOnThisMachine) {
  scratch_.Write("token", "from-dir");
  ScopedEnv dir("ORCH_DATA_DIR", scratch_.path());
  DiscoveryOptions options;
  options.server = "https://example.org:7433";
  EXPECT_EQ(Discover(options)->token, "");
  options.server = "https://localhost.example.org:7433";
  EXPECT_EQ(Discover(options)->token, "");
  options.server = "https://localhost:7433";
  EXPECT_EQ(Discover(options)->token, "from-dir");
  options.server = "https://example.org:7433";
  ScopedEnv file("ORCH_TOKEN_FILE", scratch_.Write("mine", "from-file\n"));
  EXPECT_EQ(Discover(options)->token, "from-file");
  ScopedEnv gone("ORCH_TOKEN_FILE", scratch_.path() + "/gone");
  EXPECT_EQ(ReasonOf(Discover(options).status()), "TOKEN_UNREADABLE");
}

TEST_F(DiscoveryTest, WhoSignsTheCertificate) {
  DiscoveryOptions options;
  options.server = "https://example.org:7433";
  EXPECT_EQ(Discover(options)->ca_pem, "");
  ScopedEnv ca("ORCH_CA", scratch_.Write("ca", "-----BEGIN CERTIFICATE-----\n"));
  EXPECT_EQ(Discover(options)->ca_pem, "-----BEGIN CERTIFICATE-----\n");
  options.ca_file = scratch_.Write("noca", "nothing");
  EXPECT_EQ(ReasonOf(Discover(options).status()), "CA_UNREADABLE");
  options.ca_file = scratch_.path() + "/gone";
  EXPECT_EQ(ReasonOf(Discover(options).status()), "CA_UNREADABLE");
  options.server = "127.0.0.1:7433";  // without TLS nobody asks
  EXPECT_TRUE(Discover(options).ok());
}

TEST_F(DiscoveryTest, ServerJsonSaysThatTheDaemonSpeaksTls) {
  scratch_.Write("server.json", absl::StrCat(R"({"grpc": "127.0.0.1:7117", "tls": true, "pid": )", getpid(), "}"));
  DiscoveryOptions options;
  options.data_dir = scratch_.path();
  EXPECT_EQ(Discover(options)->address, "https://127.0.0.1:7117");
}

}  // namespace
}  // namespace orch::client
