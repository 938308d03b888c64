// HTTP/1.1 calls over one connection that is kept: all that a step needs to talk to its daemon, and to a store's
// pre-signed addresses. Static, so without libcurl.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/launch/connection.h"
#include "client/launch/http_answer.h"

namespace orch::launch {

struct HttpCall {
  std::string method = "GET";
  std::string target = "/";  // path and query, escaped
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // Instead of `body` a piece of an open file.
  int fd = -1;
  int64_t offset = 0;
  int64_t length = 0;
  // Gets the body of an answer 200 or 206 as it comes; false ends the call. Empty: it is in HttpAnswer::body.
  std::function<bool(std::string_view)> take;
  int timeout_ms = 60'000;  // without progress
};

// Not thread-safe.
class HttpClient {
 public:
  explicit HttpClient(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

  // Status 0: no answer, or not the whole of it; `error` says why. A kept connection that broke is opened again once.
  HttpAnswer Do(const HttpCall& call);
  const Endpoint& endpoint() const { return endpoint_; }

 private:
  HttpAnswer Try(const HttpCall& call, bool* nothing_came);

  const Endpoint endpoint_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace orch::launch
