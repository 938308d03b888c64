// HTTP to a Docker engine: calls and streams, many at a time, on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::docker {

// Where an engine listens.
struct EngineAddress {
  std::string socket;  // a Unix socket's path; empty: `host`
  std::string host;    // `name:port`
  // A folder with `ca.pem`, `cert.pem` and `key.pem`: TLS, and both sides have to show who they are. Empty: no TLS.
  std::string certificates;
};

struct Answer {
  int status = 0;           // of HTTP; 0: there was none, and `failure` says why
  std::string body;         // of a call
  std::string failure;      // the connection's
  bool refused = false;     // nobody listens, or this user may not: the call has certainly not been heard
  bool untrusted = false;   // refused: one side does not trust the other's certificate
  std::string api_version;  // the engine's newest, if it said so

  bool ok() const { return status >= 200 && status < 400; }
  // The engine's own words: its `message`, or what else it sent.
  std::string message() const;
};

struct Request {
  std::string method;
  std::string path;  // begins with a slash
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::string> headers;  // `Name: value`; never logged
  int seconds = 0;                   // after which it fails; 0: never
};

class EngineClient {
 public:
  using Done = std::function<void(Answer)>;
  using Data = std::function<void(absl::string_view)>;

  explicit EngineClient(EngineAddress address);
  ~EngineClient();  // nothing is called back any more
  EngineClient(const EngineClient&) = delete;
  EngineClient& operator=(const EngineClient&) = delete;

  // `path` begins with a slash. `body`: JSON, or empty. `seconds`: after which it fails; 0: never.
  uint64_t Call(const std::string& method, const std::string& path, std::string body, int seconds, Done done);
  uint64_t Call(Request request, Done done);
  // `data` gets what comes, as it comes; `done` has no body. An answer that is an error goes to `done` with its body.
  uint64_t Stream(const std::string& method, const std::string& path, Data data, Done done);
  uint64_t Stream(Request request, Data data, Done done);
  // Its `done` is not called any more.
  void Abort(uint64_t id);
  // Waits for at most so long, and calls back. All others of these calls must come from the same thread, or before.
  void Poll(int millis);
  // Any thread: Poll returns.
  void Wake();

 private:
  struct Transfer;

  void TellCurl();
  uint64_t Begin(std::unique_ptr<Transfer> transfer, const Request& request);
  static size_t OnBody(char* bytes, size_t size, size_t count, void* transfer);
  static size_t OnHeader(char* bytes, size_t size, size_t count, void* transfer);

  const EngineAddress address_;
  void* multi_ = nullptr;
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Transfer>> transfers_;
  std::unordered_map<void*, uint64_t> by_handle_;
  // curl must not be told of these while it calls back.
  std::vector<void*> begun_;
  std::vector<std::unique_ptr<Transfer>> aborted_;
};

// In a query: everything but letters, digits and `-._~` is escaped.
std::string UrlEscape(absl::string_view text);

}  // namespace orch::docker
