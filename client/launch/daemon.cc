#include "client/launch/daemon.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>

namespace orch::launch {
namespace {

using nlohmann::json;

time_t MonotonicSeconds() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec;
}

HttpAnswer NoWay() {
  HttpAnswer answer;
  answer.error = "there is no way to the daemon from here";
  return answer;
}

}  // namespace

void Pause(int millis) {
  const timespec time{millis / 1000, millis % 1000 * 1'000'000};
  nanosleep(&time, nullptr);
}

Patience::Patience(int seconds) : seconds_(seconds) { Progress(); }

void Patience::Progress() {
  until_ = MonotonicSeconds() + seconds_;
  wait_ = 20;
}

bool Patience::Wait() {
  if (MonotonicSeconds() >= until_) return false;
  Pause(wait_);
  wait_ = std::min(2 * wait_, 1000);
  return true;
}

bool MayTryAgain(const HttpAnswer& answer) {
  return answer.status == 0 || answer.status == 429 || (answer.status >= 502 && answer.status <= 504);
}

Fault FaultOf(const HttpAnswer& answer) {
  if (answer.status == 0) return {"UNREACHABLE", answer.error, true};
  Fault fault{"HTTP_" + std::to_string(answer.status), "HTTP status " + std::to_string(answer.status)};
  // Of a proxy on the way that does not reach it, or of a daemon that stops.
  fault.unreachable = answer.status >= 502 && answer.status <= 504;
  const json parsed = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return fault;
  if (parsed.contains("message") && parsed["message"].is_string()) fault.message = parsed["message"];
  if (!parsed.contains("details") || !parsed["details"].is_array()) return fault;
  for (const json& detail : parsed["details"]) {
    if (!detail.is_object() || !detail.contains("debug") || !detail["debug"].is_object()) continue;
    const auto reason = detail["debug"].find("reason");
    if (reason == detail["debug"].end() || !reason->is_string()) continue;
    fault.reason = *reason;
    if (fault.reason == "STORE_UNAVAILABLE") fault.unreachable = false;  // the daemon is well, an artifact store is not
  }
  return fault;
}

std::unique_ptr<Daemon> Daemon::FromEnvironment(int patience_seconds, std::string* error) {
  if (getenv("ORCH_ENDPOINT") == nullptr || getenv("ORCH_TOKEN") == nullptr || getenv("ORCH_FENCE") == nullptr) {
    *error = "ORCH_ENDPOINT, ORCH_TOKEN and ORCH_FENCE are not set: this runs inside a step of orchd";
    return nullptr;
  }
  return With(getenv("ORCH_TOKEN"), patience_seconds, error);
}

std::unique_ptr<Daemon> Daemon::OfTask(int patience_seconds, std::string* error) {
  if (getenv("ORCH_ENDPOINT") == nullptr || getenv("ORCH_TASK") == nullptr) {
    *error = "ORCH_ENDPOINT and ORCH_TASK are not set: this runs inside a task of orchd";
    return nullptr;
  }
  return With(getenv("ORCH_TASK"), patience_seconds, error);
}

std::unique_ptr<Daemon> Daemon::With(const char* token, int patience_seconds, std::string* error) {
  const std::string endpoint = getenv("ORCH_ENDPOINT");
  Endpoint parsed;
  if (!ParseEndpoint(endpoint, &parsed)) {
    *error = "cannot use the endpoint `" + endpoint + "`: it is no unix:PATH, http:// or https://";
    return nullptr;
  }
  return std::unique_ptr<Daemon>(new Daemon(endpoint, std::move(parsed), token, patience_seconds));
}

std::unique_ptr<Daemon> Daemon::Nowhere(int patience_seconds) {
  return std::unique_ptr<Daemon>(new Daemon("nowhere", Endpoint(), "", patience_seconds));
}

HttpAnswer Daemon::AskOnce(HttpCall call) {
  if (nowhere()) return NoWay();
  call.headers.emplace_back("Authorization", "Bearer " + token_);
  return client_.Do(call);
}

HttpAnswer Daemon::AskElsewhere(const std::string& url, HttpCall call) {
  Endpoint endpoint;
  HttpAnswer bad;
  if (!ParseUrl(url, &endpoint, &call.target) || !endpoint.socket.empty()) {
    bad.error = "the daemon names an address that is none";
    return bad;
  }
  const std::string at = (endpoint.tls ? "https://" : "http://") + endpoint.authority();
  if (elsewhere_ == nullptr || elsewhere_at_ != at) {
    elsewhere_ = std::make_unique<HttpClient>(endpoint);
    elsewhere_at_ = at;
  }
  return elsewhere_->Do(call);
}

HttpAnswer Daemon::Ask(HttpCall call) {
  if (nowhere()) return NoWay();
  call.headers.emplace_back("Authorization", "Bearer " + token_);
  for (Patience patience(patience_);;) {
    HttpAnswer answer = client_.Do(call);
    if (!MayTryAgain(answer) || !patience.Wait()) return answer;
  }
}

std::optional<Fault> Daemon::Post(const std::string& target, const json& body, json* out) {
  HttpCall call;
  call.method = "POST";
  call.target = target;
  call.headers.emplace_back("Content-Type", "application/json");
  call.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
  const HttpAnswer answer = Ask(std::move(call));
  if (answer.status != 200) return FaultOf(answer);
  const json parsed = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  if (out != nullptr) *out = parsed.is_object() ? parsed : json::object();
  return std::nullopt;
}

}  // namespace orch::launch
