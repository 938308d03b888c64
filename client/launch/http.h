// One HTTP/1.1 call over a Unix socket: all that a step needs to talk to its daemon. Static, so without libcurl.
#pragma once

#include <string>

namespace orch::launch {

struct HttpAnswer {
  int status = 0;  // 0: there was no answer, `error` says why
  std::string body;
  std::string error;
};

// POSTs `json` to `path`. Gives up after `timeout_ms` without progress.
HttpAnswer PostJson(const std::string& socket_path, const std::string& path, const std::string& token,
                    const std::string& json, int timeout_ms);

}  // namespace orch::launch
