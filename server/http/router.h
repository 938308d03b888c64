// Which answer a request gets: health, metrics, calls, pages, sign-in. Knows no HTTP library.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "server/http/attempt_calls.h"
#include "server/http/message.h"
#include "server/http/pages.h"
#include "server/rpc/api.h"

namespace orch::http {

class Router {
 public:
  // `api` outlives the router.
  explicit Router(rpc::Api* api);

  // What can be said from the head alone, without waiting: open pages, and refusals before a body is read. Nothing:
  // read the body (at most body_limit()), then Serve on a worker thread. On the HTTP loop.
  std::optional<Response> Precheck(const Request& head, int64_t content_length) const;
  int64_t body_limit() const { return body_limit_; }
  // True if the call may take as long as a minute.
  bool Waits(const Request& head) const;
  // True if it moves the bytes of artifacts, which may take a while on a disk.
  bool Transfers(const Request& head) const;
  // True if the body goes to OpenSink, however long it is, instead of into Serve's request.
  bool Streams(const Request& head) const;
  // What takes the body, or a refusal. On a worker thread.
  std::unique_ptr<BodySink> OpenSink(const Request& head, Response* refusal) const;

  // The answer. On a worker thread.
  Response Serve(const Request& request) const;

  // `/healthz` says 503 from now on.
  void SetServing(bool serving) { serving_ = serving; }

 private:
  // By token or cookie; UNAUTHENTICATED.
  absl::StatusOr<rpc::Identity> Identify(const Request& request) const;
  std::string CookieOf(const Request& request) const;
  Response SignIn(const Request& request) const;
  Response Metrics() const;

  rpc::Api& api_;
  const Pages pages_;
  const AttemptCalls attempts_;
  const int64_t body_limit_;
  std::atomic<bool> serving_{false};
};

}  // namespace orch::http
