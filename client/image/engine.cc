#include "client/image/engine.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/launch/connection.h"
#include "client/launch/http_answer.h"
#include "server/base/status.h"

namespace orch::image {
namespace {

constexpr int kOldestApi = 41;
constexpr int kNewestApi = 51;
constexpr int kSilenceMillis = 1'800'000;  // a step of a build may say nothing for long
constexpr size_t kMostBody = 64 << 20;

std::string UsualHost() {
  if (const char* host = getenv("DOCKER_HOST"); host != nullptr && host[0] != '\0') return host;
  struct stat st {};
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  const std::string rootless = absl::StrCat(runtime == nullptr ? "" : runtime, "/docker.sock");
  if (stat("/var/run/docker.sock", &st) != 0 && runtime != nullptr && stat(rootless.c_str(), &st) == 0) {
    return absl::StrCat("unix://", rootless);
  }
  return "unix:///var/run/docker.sock";
}

absl::Status NoEngine(const std::string& host, const std::string& why) {
  return Error(
      absl::StatusCode::kUnavailable, "NO_ENGINE",
      absl::StrCat("no Docker engine answers at ", host, " (", why, "): start one, or name another with --host"));
}

}  // namespace

std::string EngineAnswer::message() const {
  const auto parsed = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object() && parsed.contains("message") && parsed["message"].is_string()) {
    return parsed["message"].get<std::string>();
  }
  const absl::string_view text = absl::StripAsciiWhitespace(absl::string_view(body).substr(0, 500));
  return text.empty() ? absl::StrCat("HTTP ", status) : std::string(text);
}

std::string Escape(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || absl::StrContains("-._~", absl::string_view(&c, 1))) {
      out.push_back(c);
    } else {
      absl::StrAppendFormat(&out, "%%%02X", byte);
    }
  }
  return out;
}

absl::StatusOr<Engine> Engine::Connect(const std::string& host) {
  Engine engine;
  engine.host_ = host.empty() ? UsualHost() : host;
  absl::string_view rest = engine.host_;
  std::string text;
  if (absl::ConsumePrefix(&rest, "unix://")) {
    text = absl::StrCat("unix:", rest);
  } else if (absl::ConsumePrefix(&rest, "tcp://")) {
    text = absl::StrCat("http://", rest);
  }
  if (text.empty() || !launch::ParseEndpoint(text, &engine.endpoint_)) {
    return Error(absl::StatusCode::kInvalidArgument, "HOST_INVALID",
                 absl::StrCat("`", engine.host_, "` is no engine's address: unix://PATH, or tcp://HOST:PORT"));
  }
  Call ping;
  ASSIGN_OR_RETURN(const EngineAnswer answer, engine.Raw(ping, "/_ping"));
  int api = kOldestApi;
  const std::vector<std::string> parts = absl::StrSplit(answer.api_version, '.');
  if (parts.size() == 2) (void)absl::SimpleAtoi(parts[1], &api);
  if (!answer.ok()) return NoEngine(engine.host_, answer.message());
  if (api < kOldestApi) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "ENGINE_TOO_OLD",
        absl::StrCat("the engine at ", engine.host_, " speaks API 1.", api, "; 1.", kOldestApi, " or later is needed"));
  }
  engine.api_ = std::min(api, kNewestApi);
  return engine;
}

absl::StatusOr<EngineAnswer> Engine::Do(const Call& call) const {
  return Raw(call, absl::StrCat("/v1.", api_, call.path));
}

absl::StatusOr<EngineAnswer> Engine::Raw(const Call& call, const std::string& target) const {
  std::string error;
  const auto connection = launch::Connection::Open(endpoint_, kSilenceMillis, &error);
  if (connection == nullptr) return NoEngine(host_, error);
  // The older version of HTTP: then the answer comes in no chunks, and ends with the connection.
  std::string head = absl::StrCat(call.method, " ", target, " HTTP/1.0\r\nHost: ", endpoint_.authority(), "\r\n");
  for (const auto& [name, value] : call.headers) absl::StrAppend(&head, name, ": ", value, "\r\n");
  if (call.method == "POST") {
    absl::StrAppend(&head, "Content-Type: ", call.content_type, "\r\nContent-Length: ", call.body.size(), "\r\n");
  }
  absl::StrAppend(&head, "\r\n");
  for (const absl::string_view part : {absl::string_view(head), absl::string_view(call.body)}) {
    for (size_t at = 0; at < part.size();) {
      const long n = connection->Write(part.data() + at, part.size() - at, &error);
      if (n <= 0) return NoEngine(host_, error);
      at += static_cast<size_t>(n);
    }
  }
  EngineAnswer answer;
  std::string text;
  std::string line;
  bool in_body = false;
  const auto take = [&](absl::string_view bytes) {
    if (!answer.ok() || !call.line) {
      answer.body.append(bytes.data(), std::min(bytes.size(), kMostBody - answer.body.size()));
      return;
    }
    line.append(bytes.data(), bytes.size());
    for (size_t end; (end = line.find('\n')) != std::string::npos; line.erase(0, end + 1)) {
      call.line(absl::StripAsciiWhitespace(absl::string_view(line).substr(0, end)));
    }
  };
  char buffer[65536];
  for (;;) {
    const long n = connection->Read(buffer, sizeof(buffer), &error);
    if (n < 0) return NoEngine(host_, error);
    if (n == 0) break;
    if (in_body) {
      take(absl::string_view(buffer, static_cast<size_t>(n)));
      continue;
    }
    text.append(buffer, static_cast<size_t>(n));
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    launch::AnswerHead said;
    if (!launch::ReadHead(std::string_view(text).substr(0, end + 2), &said))
      return NoEngine(host_, "it speaks no HTTP");
    answer.status = said.status;
    launch::HttpAnswer shown;
    shown.head = text.substr(0, end + 2);
    answer.api_version = shown.Header("Api-Version");
    in_body = true;
    take(absl::string_view(text).substr(end + 4));
  }
  if (!in_body) return NoEngine(host_, "it broke off");
  if (call.line && answer.ok() && !line.empty()) call.line(absl::StripAsciiWhitespace(line));
  return answer;
}

}  // namespace orch::image
