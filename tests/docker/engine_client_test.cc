// What happens to calls and logs when connections break, against a double of an engine: a server that answers as it is
// told.
#include "backends/docker/engine_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/docker/engine_link.h"
#include "backends/docker/log_stream.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace orch::docker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A double of an engine: gives each request what `answer` says; empty: it hangs up.
class ServerDouble {
 public:
  using Reply = std::function<std::string(const std::string& request)>;

  explicit ServerDouble(Reply answer, bool network = false) : answer_(std::move(answer)) {
    network ? ListenToNetwork() : ListenAtSocket();
    thread_ = std::thread([this] { Serve(); });
  }
  ~ServerDouble() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
    for (const int client : clients_) shutdown(client, SHUT_RDWR);
    for (std::thread& each : talking_) each.join();
    for (const int client : clients_) close(client);
  }

  EngineAddress address() const {
    return path_.empty() ? EngineAddress{"", absl::StrCat("127.0.0.1:", port_), ""} : EngineAddress{path_, "", ""};
  }
  int port() const { return port_; }

 private:
  void ListenAtSocket() {
    path_ = absl::StrCat(::testing::TempDir(), "/engine-", getpid(), ".sock");
    unlink(path_.c_str());
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << path_;
    EXPECT_EQ(listen(fd_, 16), 0);
  }

  void ListenToNetwork() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    port_ = ntohs(address.sin_port);
  }

  void Serve() {
    for (int client; (client = accept(fd_, nullptr, nullptr)) >= 0;) {
      clients_.push_back(client);
      talking_.emplace_back([this, client] { Talk(client); });
    }
  }

  void Talk(int client) {
    std::string text;
    char piece[4096];
    for (ssize_t n; (n = read(client, piece, sizeof(piece))) > 0;) {
      text.append(piece, static_cast<size_t>(n));
      if (!absl::StrContains(text, "\r\n\r\n")) continue;
      std::string reply;
      {
        MutexLock lock(&mutex_);
        reply = answer_(text.substr(0, text.find("\r\n")));
      }
      text.clear();
      if (reply.empty() || write(client, reply.data(), reply.size()) < 0) break;
      if (absl::StrContains(reply, "Connection: close")) break;
    }
    shutdown(client, SHUT_RDWR);
  }

  const Reply answer_;
  Mutex mutex_;  // one request after another
  std::string path_;
  int port_ = 0;
  int fd_ = -1;
  std::thread thread_;
  std::vector<int> clients_;
  std::vector<std::thread> talking_;
};

std::string Good(const std::string& body, const char* more = "") {
  return absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\n", more, "\r\n", body);
}

void PollUntil(EngineClient* client, const std::function<bool()>& done) {
  const int64_t until = Clock::Real().Now().mono + 60'000'000;
  while (!done()) {
    ASSERT_LT(Clock::Real().Now().mono, until);
    client->Poll(50);
  }
}

// libcurl sends what it sends on a connection that it had kept once more, if that breaks before there is an answer.
TEST(EngineClientTest, ACallThatChangesSomethingIsSentOnce) {
  std::vector<std::string> heard;
  ServerDouble server([&](const std::string& request) {
    heard.push_back(request);
    return absl::StartsWith(request, "POST") ? "" : Good("{}");
  });
  EngineClient client(server.address());
  std::optional<Answer> got;
  client.Call("GET", "/first", "", 60, [&](Answer answer) { got = answer; });  // its connection is kept
  PollUntil(&client, [&] { return got.has_value(); });
  ASSERT_EQ(got->status, 200) << got->failure;
  got.reset();
  client.Call("POST", "/containers/x/start", "", 0, [&](Answer answer) { got = answer; });
  PollUntil(&client, [&] { return got.has_value(); });
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->status, 0);
  EXPECT_FALSE(got->refused) << "it may have been heard";
  int starts = 0;
  for (const std::string& request : heard) starts += absl::StartsWith(request, "POST") ? 1 : 0;
  EXPECT_EQ(starts, 1);
}

// One whose machine is gone closes nothing: the stream of events stays as it is.
TEST(EngineLinkTest, OverANetworkEachNewConnectionMayBeToAnotherEngine) {
  for (const bool network : {false, true}) {
    ServerDouble server(
        [](const std::string& request) {
          return absl::StrContains(request, "/events") ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                                       : Good("OK", "Api-Version: 1.51\r\n");
        },
        network);
    EngineClient client(server.address());
    Config config;
    config.address = server.address();
    int reached = 0;
    EngineLink link(&client, &config, {},
                    {[&] { ++reached; }, [] {}, [](const ContainerEvent&) {}, [](bool, const std::string&) {}});
    link.Connect();
    PollUntil(&client, [&] { return reached == 1; });
    link.Settled();
    const int64_t breaks = link.breaks();
    link.Disconnected("an answer was lost");
    PollUntil(&client, [&] {
      (void)link.Wake(Clock::Real().Now().mono);
      return reached == 2;
    });
    EXPECT_EQ(link.breaks() > breaks, network);
  }
}

// The kernel says so of all connections to the server.
TEST(EngineClientTest, AMachineThatIsGoneWithoutAWordIsNoticed) {
  ServerDouble server(
      [](const std::string&) { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"; },
      /*network=*/true);
  EngineClient client(server.address());
  std::string came;
  client.Stream(
      "GET", "/events", [&](absl::string_view bytes) { came.append(bytes.data(), bytes.size()); }, [](Answer) {});
  PollUntil(&client, [&] { return !came.empty(); });
  int connections = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_in peer{};
    socklen_t size = sizeof(peer);
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.sin_family != AF_INET) continue;
    if (ntohs(peer.sin_port) != server.port()) continue;
    ++connections;
    const auto option = [fd](int level, int name) {
      int value = 0;
      socklen_t length = sizeof(value);
      EXPECT_EQ(getsockopt(fd, level, name, &value, &length), 0);
      return value;
    };
    EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 30);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 30'000);
  }
  EXPECT_EQ(connections, 1);
}

std::string Frame(const std::string& text) {
  std::string out = {1, 0, 0, 0, 0, 0, 0, static_cast<char>(text.size())};
  return out + text;
}

TEST(LogStreamTest, OneThatBreaksOffIsTakenUpAgainAndReadToItsEnd) {
  const std::string one = Frame("one\n");
  const std::string all = one + Frame("two\n") + Frame("three\n");
  std::vector<std::string> heard;
  ServerDouble server([&](const std::string& request) -> std::string {
    heard.push_back(absl::StrContains(request, "follow") ? "follow" : "read");
    if (heard.size() == 1) {  // the connection breaks in the middle
      return absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: 999\r\nConnection: close\r\n\r\n", one,
                          all.substr(one.size(), 5));
    }
    return Good(heard.size() == 2 ? all.substr(0, 2 * one.size()) : all, "Connection: close\r\n");
  });
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / ("log-stream-" + std::to_string(getpid()));
  std::filesystem::remove_all(dir);
  EngineClient client(server.address());
  int let_go = 0;
  bool finished = false;
  int64_t due = 0;
  LogStream::Calls calls;
  calls.path = [](absl::string_view path) { return std::string(path); };
  calls.let_go = [&] { ++let_go; };
  calls.finished = [&] { finished = true; };
  calls.over_limit = [] { FAIL(); };
  calls.faulty = [](const std::string&) { FAIL(); };
  calls.wake = [&](int64_t mono) { due = mono; };
  LogStream log(&client, (dir / "0.1").string(), 0, std::move(calls));
  log.Follow("x");
  PollUntil(&client, [&] { return due > 0; });
  EXPECT_EQ(let_go, 0) << "that was no end";
  log.Follow("x");
  EXPECT_FALSE(log.open()) << "in a while";
  log.Wake(due, /*engine_is_there=*/false);
  EXPECT_FALSE(log.open());
  log.Wake(due, /*engine_is_there=*/true);
  PollUntil(&client, [&] { return let_go == 1; });
  log.Finish("x");
  PollUntil(&client, [&] { return finished; });
  EXPECT_THAT(heard, ElementsAre("follow", "follow", "read"));
  EXPECT_EQ(log.fault(), "");
  EXPECT_EQ(log.bytes(false), 14);
  std::ifstream in(dir / "0.1.out");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "one\ntwo\nthree\n") << "neither lost nor twice";
}

TEST(LogStreamTest, OneThatIsRefusedIsNotTakenForItsEnd) {
  for (const int refusals : {2, 1000}) {
    int asked = 0;
    ServerDouble server([&](const std::string&) -> std::string {
      if (++asked > refusals) return Good(Frame("one\n"), "Connection: close\r\n");
      const std::string body = R"({"message":"can not get logs from container which is dead"})";
      return absl::StrCat("HTTP/1.1 ", asked % 2 == 0 ? 409 : 500, " No\r\nContent-Length: ", body.size(), "\r\n\r\n",
                          body);
    });
    const std::filesystem::path dir =
        std::filesystem::path(::testing::TempDir()) / ("log-stream-refused-" + std::to_string(getpid()));
    std::filesystem::remove_all(dir);
    EngineClient client(server.address());
    bool finished = false;
    int told = 0;
    int64_t due = 0;
    LogStream::Calls calls;
    calls.path = [](absl::string_view path) { return std::string(path); };
    calls.let_go = [] { FAIL(); };
    calls.finished = [&] { finished = true; };
    calls.over_limit = [] { FAIL(); };
    calls.faulty = [&](const std::string&) { ++told; };
    calls.wake = [&](int64_t mono) { due = mono; };
    LogStream log(&client, (dir / "0.1").string(), 0, std::move(calls));
    log.Finish("x");
    PollUntil(&client, [&] {
      if (due > 0) log.Wake(std::exchange(due, 0), /*engine_is_there=*/true);
      return finished;
    });
    EXPECT_EQ(told, 1);
    if (refusals == 2) {
      EXPECT_EQ(log.fault(), "");
      EXPECT_EQ(log.bytes(false), 4);
    } else {
      EXPECT_THAT(log.fault(), HasSubstr("can not get logs from container which is dead")) << "an end without its log";
      EXPECT_EQ(asked, 4);
    }
  }
}

}  // namespace
}  // namespace orch::docker
