// HTTP to one API server, many requests at a time on one thread. CurlTransport is the real one; tests have a double
// that answers by a script.
//
// All calls from one thread, and nothing is called back from within Begin or Abort; Wake alone may come from any
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::kubernetes {

struct HttpRequest {
  std::string method;
  std::string path;  // begins with a slash; with the query, escaped
  std::string body;  // sent if it is not empty
  std::string content_type = "application/json";
  std::vector<std::string> headers;  // `Name: value`; never logged
  int seconds = 0;                   // after which it fails; 0: never
  bool first = false;                // before those that wait to be sent
};

struct HttpAnswer {
  int status = 0;       // 0: there was none, and `failure` says why
  std::string body;     // of what is no stream, and of a stream that is an error
  std::string failure;  // the connection's
  // The server has certainly not heard of it: no connection was made.
  bool unheard = false;
  std::string retry_after;            // the header, as it came
  std::vector<std::string> warnings;  // the texts of its `Warning` headers
  bool begun = false;                 // a stream that the server had opened, however it ended
};

class Transport {
 public:
  using Data = std::function<void(absl::string_view)>;
  using Done = std::function<void(HttpAnswer)>;

  virtual ~Transport() = default;  // nothing is called back any more

  // With `data` it is a stream: what comes with a status of 2xx goes there as it comes, and `done` has no body.
  virtual uint64_t Begin(HttpRequest request, Data data, Done done) = 0;
  // Its functions are not called any more.
  virtual void Abort(uint64_t id) = 0;
  // Waits for at most so long, or until one of `fds` can be read, and calls back.
  virtual void Poll(int millis, const std::vector<int>& fds) = 0;
  virtual void Wake() = 0;
  // The client's certificate for connections that are made from now on; PEM, empty: none.
  virtual void UseCertificate(const std::string& certificate_pem, const std::string& key_pem) = 0;
};

// In a query: everything but letters, digits and `-._~` is escaped.
std::string UrlEscape(absl::string_view text);

}  // namespace orch::kubernetes
