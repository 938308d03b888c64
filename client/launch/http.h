// One HTTP/1.1 call over a Unix socket: all that a step needs to talk to its daemon. Static, so without libcurl.
#pragma once

#include <string>

#include "client/launch/http_answer.h"

namespace orch::launch {

// POSTs `json` to `path`. Gives up after `timeout_ms` without progress.
HttpAnswer PostJson(const std::string& socket_path, const std::string& path, const std::string& token,
                    const std::string& json, int timeout_ms);

}  // namespace orch::launch
