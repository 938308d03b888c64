#include "server/http/router.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/clock.h"
#include "server/base/status.h"
#include "server/http/connect.h"
#include "server/http/html.h"
#include "server/http/metrics_text.h"

namespace orch::http {
namespace {

constexpr int64_t kMaxBody = int64_t{64} << 20;

bool IsCall(absl::string_view path) { return absl::StartsWith(path, "/orch.v1."); }
bool IsPage(absl::string_view path) { return path == "/runs" || absl::StartsWith(path, "/runs/"); }

Response Text(int status, std::string text) {
  Response response;
  response.status = status;
  response.body = std::move(text);
  return response;
}

}  // namespace

Router::Router(rpc::Api* api)
    : api_(*api),
      pages_(&api->table(), &api->guard()),
      attempts_(api->context().engine),
      body_limit_(std::min(kMaxBody, api->context().engine->limits().message_bytes)) {}

std::string Router::CookieOf(const Request& request) const {
  const std::string header = request.header("cookie");
  for (absl::string_view pair : absl::StrSplit(header, ';')) {
    pair = absl::StripAsciiWhitespace(pair);
    if (absl::ConsumePrefix(&pair, api_.sign_in().cookie_name()) && absl::ConsumePrefix(&pair, "=")) {
      return std::string(pair);
    }
  }
  return {};
}

absl::StatusOr<rpc::Identity> Router::Identify(const Request& request) const {
  const std::string authorization = request.header("authorization");
  if (authorization.empty()) {
    const std::string cookie = CookieOf(request);
    const std::optional<std::string> subject =
        cookie.empty() ? std::nullopt : api_.sign_in().CheckCookie(cookie, Clock::Real().Now().wall);
    if (subject.has_value()) {
      // A page of another site must not act with our cookie; SameSite=Strict says so too, to those that know it.
      const std::string site = request.header("sec-fetch-site");
      if (request.method == "GET" || request.method == "HEAD" || site.empty() || site == "same-origin") {
        return api_.guard().OfCookie(*subject);
      }
    }
  }
  return api_.guard().Identify(request.transport, authorization);
}

std::optional<Response> Router::Precheck(const Request& head, int64_t content_length) const {
  const bool get = head.method == "GET" || head.method == "HEAD";
  if (head.path == "/healthz") {
    if (!get) return Text(405, "GET it\n");
    return serving_ ? Text(200, "ok\n") : Text(503, "not serving\n");
  }
  if (head.path == "/style.css" && get) {
    Response style = Text(200, std::string(StyleSheet()));
    style.content_type = "text/css; charset=utf-8";
    style.headers.emplace_back("Cache-Control", "max-age=3600");
    return style;
  }
  if (head.path == "/" && get) {
    Response to_runs = Text(303, "see /runs\n");
    to_runs.headers.emplace_back("Location", "/runs");
    return to_runs;
  }
  if (head.path == "/signin" && head.method == "GET") return std::nullopt;
  const absl::StatusOr<rpc::Identity> identity = Identify(head);
  if (IsCall(head.path)) {
    if (head.method != "POST") {
      Response refused = ConnectError(Error(absl::StatusCode::kUnimplemented, "METHOD_NOT_ALLOWED", "POST it"));
      refused.status = 405;
      refused.headers.emplace_back("Allow", "POST");
      return refused;
    }
    if (!identity.ok()) return ConnectError(identity.status());
    if (content_length > body_limit_) {
      Response refused = ConnectError(Error(
          absl::StatusCode::kResourceExhausted, "BODY_TOO_LARGE",
          absl::StrCat("the body has ", content_length, " bytes; at most ", body_limit_, " here, more over gRPC")));
      refused.status = 413;
      return refused;
    }
    return std::nullopt;
  }
  if (AttemptCalls::Has(head.path)) {
    if (!identity.ok()) return ConnectError(identity.status());
    return attempts_.Precheck(*identity, head, content_length);
  }
  if (IsPage(head.path)) {
    if (!identity.ok()) return Pages::SignInNeeded(head.path);
    if (!get) return Pages::Problem(405, "Not allowed", "This page can only be read.");
    return std::nullopt;
  }
  if (!identity.ok()) return ConnectError(identity.status());
  if (head.path == "/metrics" && get) return std::nullopt;
  return Text(404, "no such page\n");
}

bool Router::Transfers(const Request& head) const { return AttemptCalls::Has(head.path); }
bool Router::Streams(const Request& head) const { return AttemptCalls::Streams(head); }

std::unique_ptr<BodySink> Router::OpenSink(const Request& head, Response* refusal) const {
  const absl::StatusOr<rpc::Identity> identity = Identify(head);
  if (!identity.ok()) {
    *refusal = ConnectError(identity.status());
    return nullptr;
  }
  return attempts_.OpenSink(*identity, head, refusal);
}

bool Router::Waits(const Request& head) const {
  const rpc::Method* method = api_.table().Find(absl::StripPrefix(absl::string_view(head.path), "/"));
  return method != nullptr && method->traits.waits;
}

Response Router::Serve(const Request& request) const {
  if (request.path == "/signin") return SignIn(request);
  // Again: a step's token may have died since its head was read.
  const absl::StatusOr<rpc::Identity> identity = Identify(request);
  if (!identity.ok()) return ConnectError(identity.status());
  if (IsCall(request.path)) return ServeConnect(api_.table(), api_.guard(), *identity, request);
  if (AttemptCalls::Has(request.path)) return attempts_.Serve(*identity, request);
  const absl::Status permitted = api_.guard().Permit(*identity, request.path, {});
  if (!permitted.ok()) return ConnectError(permitted);
  if (request.path == "/metrics") return Metrics();
  return pages_.Serve(*identity, request);
}

Response Router::SignIn(const Request& request) const {
  const int64_t now = Clock::Real().Now().wall;
  const std::optional<rpc::SignIn::Link> link = api_.sign_in().UseCode(request.argument("code"), now);
  if (!link) {
    return Pages::Problem(401, "This link is used up",
                          "A sign-in link works once, for five minutes. `orchctl open-run NAME` prints a new one.");
  }
  Response response = Text(303, "signed in\n");
  const bool https = absl::StartsWith(api_.facts().pages(), "https:");
  response.headers = {
      {"Location", link->path},
      {"Set-Cookie", absl::StrCat(api_.sign_in().cookie_name(), "=", api_.sign_in().MakeCookie(link->subject, now),
                                  "; HttpOnly; SameSite=Strict; Path=/; Max-Age=",
                                  rpc::SignIn::kCookieMicros / 1'000'000, https ? "; Secure" : "")},
      {"Cache-Control", "no-store"},
      {"Referrer-Policy", "no-referrer"}};
  return response;
}

Response Router::Metrics() const {
  Response response = Text(200, MetricsText(*api_.context().engine, api_.metrics()));
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return response;
}

}  // namespace orch::http
