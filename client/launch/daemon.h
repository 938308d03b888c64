// The daemon as an attempt's launcher sees it: calls that are tried again while it restarts.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client/launch/http_client.h"

namespace orch::launch {

// Why something could not be done. `reason` is the daemon's word, or of those that end an attempt.
struct Fault {
  std::string reason;
  std::string message;
  bool unreachable = false;  // the daemon did not answer itself

  // The attempt is over for the daemon: nothing of this launcher counts any more.
  bool stale() const { return reason == "ATTEMPT_STALE" || reason == "ATTEMPT_TAKEN" || reason == "TOKEN_INVALID"; }
};

// Of an answer that is no success: the daemon's reason and words, or its status.
Fault FaultOf(const HttpAnswer& answer);

// Not thread-safe.
class Daemon {
 public:
  // Of ORCH_ENDPOINT and ORCH_TOKEN. Null: `error` says what is missing.
  static std::unique_ptr<Daemon> FromEnvironment(int patience_seconds, std::string* error);

  // Of ORCH_ENDPOINT and ORCH_TASK, which may ask for an attempt and for nothing else.
  static std::unique_ptr<Daemon> OfTask(int patience_seconds, std::string* error);

  // For where there is no way to it: no call is answered. `patience_seconds` is for stores.
  static std::unique_ptr<Daemon> Nowhere(int patience_seconds);
  bool nowhere() const { return token_.empty(); }

  // One call with the token. Tried again while the daemon cannot be reached or asks for patience, for so long as
  // `patience_seconds` pass without an answer; then status 0 or what was last said.
  HttpAnswer Ask(HttpCall call);
  // Once, within `timeout_ms`.
  HttpAnswer AskOnce(HttpCall call);
  // POSTs JSON; the answer's JSON, which is an object, or the fault.
  std::optional<Fault> Post(const std::string& target, const nlohmann::json& body, nlohmann::json* out);

  // A call of a pre-signed address, which gets no token. Once.
  HttpAnswer AskElsewhere(const std::string& url, HttpCall call);

  const std::string& name() const { return name_; }
  int patience_seconds() const { return patience_; }
  void set_patience_seconds(int seconds) { patience_ = seconds; }

 private:
  static std::unique_ptr<Daemon> With(const char* token, int patience_seconds, std::string* error);
  Daemon(std::string name, Endpoint endpoint, std::string token, int patience)
      : name_(std::move(name)), token_(std::move(token)), patience_(patience), client_(std::move(endpoint)) {}

  const std::string name_;
  const std::string token_;
  int patience_;
  HttpClient client_;
  std::unique_ptr<HttpClient> elsewhere_;  // the newest other server
  std::string elsewhere_at_;
};

// Waits between two tries of what cannot be waited for.
void Pause(int millis);

// How long something is tried again: until so many seconds have passed since it last went on.
class Patience {
 public:
  explicit Patience(int seconds);
  void Progress();
  // Waits before the next try; false once there shall be none.
  bool Wait();

 private:
  const int seconds_;
  time_t until_ = 0;
  int wait_ = 20;
};

// True for answers after which the same call may do.
bool MayTryAgain(const HttpAnswer& answer);

}  // namespace orch::launch
