// A whole HTTP request against a real daemon's inside: every answer is one of ours, and none is INTERNAL.
//
// The input is the request as text: `METHOD path`, headers, an empty line, the body. Queries are `name=value` pairs
// after `?`. The supervisor is a double, so that no step of any pipeline can start.
#include "server/http/router.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "backends/api/registry.h"
#include "backends/local/supervisor_link.h"
#include "backends/local/wire.h"
#include "server/base/log.h"
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/urls.h"
#include "tests/fuzz/scratch.h"

namespace orch::http {
namespace {

constexpr char kToken[] = "token";

// Stands in for orch-supervisor: knows its language, and starts nothing; every spawn has failed.
class SupervisorDouble {
 public:
  explicit SupervisorDouble(const std::string& data_dir) {
    std::filesystem::create_directories(data_dir + "/local");
    const std::string path = local::SupervisorSocketPath(data_dir).value();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof(address.sun_path));
    std::copy(path.begin(), path.end(), address.sun_path);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(listener_, 4) == 0);
    thread_ = std::thread([this] { Run(); });
  }
  ~SupervisorDouble() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

 private:
  void Run() {
    for (;;) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      Serve(fd);
      close(fd);
    }
  }
  static void Answer(int fd, const std::string& frame) { (void)send(fd, frame.data(), frame.size(), MSG_NOSIGNAL); }
  static void Serve(int fd) {
    local::FrameReader reader;
    char buffer[4096];
    for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      reader.Append({buffer, static_cast<size_t>(n)});
      bool broken = false;
      while (const auto frame = reader.Next(&broken)) {
        local::Hello hello;
        local::Spawn spawn;
        if (frame->type == local::FrameType::kHello && Decode(frame->body, &hello)) {
          Answer(fd, Encode(local::Welcome{hello.version, getpid(), false, {}}));
        } else if (frame->type == local::FrameType::kSpawn && Decode(frame->body, &spawn)) {
          local::Exited exited{spawn.key, {}};
          exited.end.kind = local::End::Kind::kSpawnFailed;
          exited.end.status = EAGAIN;
          Answer(fd, Encode(exited));
        }
      }
      REQUIRE(!broken);
    }
  }

  int listener_ = -1;
  std::thread thread_;
};

class Inside {
 public:
  Inside() : supervisor_(scratch_.dir() + "/data") {
    SetLogLevel(LogLevel::kError);
    EngineOptions options;
    options.data_dir = scratch_.dir() + "/data";
    options.binary_dir = scratch_.dir() + "/none";
    options.fake_flavor = true;
    options.parse_spec = &rpc::ParseSpec;
    options.limits.steps_per_run = 1000;
    options.limits.fanout_width = 200;
    options.limits.live_runs = 200;
    auto engine = Engine::Start(std::move(options));
    if (!engine.ok()) std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
    REQUIRE(engine.ok());
    engine_ = *std::move(engine);
    rpc::ApiOptions api;
    api.engine = engine_.get();
    api.token = kToken;
    api.version = "1";
    api.data_dir = scratch_.dir();
    api_ = std::make_unique<rpc::Api>(std::move(api));
    router_ = std::make_unique<Router>(api_.get());
    router_->SetServing(true);
  }
  ~Inside() {
    engine_->hub().Close();
    api_->pool().Stop();
    engine_->Shutdown();
  }
  const Router& router() const { return *router_; }

 private:
  fuzz::Scratch scratch_;
  SupervisorDouble supervisor_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<rpc::Api> api_;
  std::unique_ptr<Router> router_;
};

Request ReadRequest(absl::string_view text) {
  Request request;
  const size_t head_end = text.find("\n\n");
  const absl::string_view head = text.substr(0, head_end);
  if (head_end != absl::string_view::npos) request.body = std::string(text.substr(head_end + 2));
  bool first = true;
  for (absl::string_view line : absl::StrSplit(head, '\n')) {
    if (first) {
      const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
      request.method = std::string(parts.first);
      const std::pair<absl::string_view, absl::string_view> target =
          absl::StrSplit(parts.second, absl::MaxSplits('?', 1));
      request.path = rpc::UrlUnescape(target.first);
      for (absl::string_view pair : absl::StrSplit(target.second, '&', absl::SkipEmpty())) {
        const std::pair<absl::string_view, absl::string_view> argument = absl::StrSplit(pair, absl::MaxSplits('=', 1));
        request.query[rpc::UrlUnescape(argument.first)] = rpc::UrlUnescape(argument.second);
      }
      first = false;
      continue;
    }
    const std::pair<absl::string_view, absl::string_view> header = absl::StrSplit(line, absl::MaxSplits(':', 1));
    request.headers[absl::AsciiStrToLower(header.first)] = std::string(absl::StripAsciiWhitespace(header.second));
  }
  return request;
}

void CheckAnswer(const Request& request, const Response& response) {
  static const std::set<int> kOurs = {200, 303, 400, 401, 403, 404, 405, 409, 413, 415, 429, 499, 501, 503, 504};
  if (kOurs.count(response.status) == 0) {
    std::fprintf(stderr, "%d for %s: %s\n", response.status, request.path.c_str(), response.body.c_str());
  }
  REQUIRE(kOurs.count(response.status) > 0);
  for (const auto& [name, value] : response.headers) {
    REQUIRE(value.find('\n') == std::string::npos && value.find('\r') == std::string::npos);
  }
  // A page may show what a run is called, never as markup.
  if (absl::StartsWith(response.content_type, "text/html")) REQUIRE(!absl::StrContains(response.body, "<script"));
}

void Check(absl::string_view text) {
  static const Inside inside;
  const Router& router = inside.router();
  Request request = ReadRequest(text);
  // Calls that wait are given a moment, not a minute.
  request.headers["connect-timeout-ms"] = "1";
  if (request.headers.count("authorization") == 0) request.transport = rpc::Transport::kUnix;
  const auto early = router.Precheck(request, static_cast<int64_t>(request.body.size()));
  (void)router.Waits(request);
  if (early) {
    CheckAnswer(request, *early);
    return;
  }
  CheckAnswer(request, router.Serve(request));
}

}  // namespace
}  // namespace orch::http

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  orch::http::Check({text.data(), text.size()});
  return 0;
}
