// Calls to a Docker engine, one at a time, that wait.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/launch/endpoint.h"

namespace orch::image {

struct EngineAnswer {
  int status = 0;  // of HTTP
  std::string body;
  std::string api_version;  // the engine's newest, if it said so

  bool ok() const { return status >= 200 && status < 300; }
  // The engine's own words.
  std::string message() const;
};

class Engine {
 public:
  // `host`: `unix://PATH` or `tcp://HOST:PORT`; empty: DOCKER_HOST, then the usual sockets. UNAVAILABLE (NO_ENGINE),
  // INVALID_ARGUMENT (HOST_INVALID), FAILED_PRECONDITION (ENGINE_TOO_OLD).
  static absl::StatusOr<Engine> Connect(const std::string& host);

  struct Call {
    std::string method = "GET";
    std::string path;  // without the API's version
    std::string content_type = "application/json";
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    // Gets each line of a good answer as it comes; then the answer has no body.
    std::function<void(absl::string_view line)> line;
  };
  // UNAVAILABLE (NO_ENGINE) if it breaks off. An answer that is an error is one.
  absl::StatusOr<EngineAnswer> Do(const Call& call) const;

  const std::string& host() const { return host_; }

 private:
  absl::StatusOr<EngineAnswer> Raw(const Call& call, const std::string& target) const;

  launch::Endpoint endpoint_;
  std::string host_;
  int api_ = 41;
};

// In a query.
std::string Escape(absl::string_view text);

}  // namespace orch::image
