// What an API server answered, read: the object, or a Status that says why not.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/transport.h"

namespace orch::kubernetes {

struct Cause {
  std::string reason, message, field;
};

struct Answer {
  int code = 0;         // of HTTP, or of the Status of a watch; 0: there was no answer
  std::string reason;   // the Status' word (`AlreadyExists`); empty: it had none
  std::string message;  // the server's own words, or what happened to the connection; empty if all is well
  std::vector<Cause> causes;
  int64_t retry_after = 0;  // microseconds; 0: it did not say
  bool unheard = false;     // the server has certainly not heard of it
  bool begun = false;       // a stream that the server had opened, however it ended
  nlohmann::json object;    // of an answer that is well; a stream has none
  std::vector<std::string> warnings;

  bool ok() const { return code >= 200 && code < 300; }
  // The same request may do better later: too busy, broken down, no answer.
  bool later() const { return code == 0 || code == 429 || code >= 500; }
  // Nothing was created, and may be later: a quota that is used up or that nobody has counted yet, a webhook that is
  // away, too many requests.
  bool refused_for_now() const;
  // A resource version or a page of a list is too old.
  bool expired() const { return code == 410 || reason == "Expired" || reason == "Gone"; }
  // `403 Forbidden: jobs.batch is forbidden: …; spec.x: …`.
  std::string Words() const;
};

// What a server, or a proxy on the way, has answered. An object that is no JSON is an answer of code 0; so is none at
// all where one is needed (`needs_object`), else the object is an empty one.
Answer ReadAnswer(HttpAnswer answer, bool needs_object = true);
// A Status object, as in an answer or an event of a watch.
void ReadStatus(const nlohmann::json& status, Answer* out);
// The text at `/metadata/NAME`, or empty.
std::string MetadataText(const nlohmann::json& object, const char* name);

}  // namespace orch::kubernetes
