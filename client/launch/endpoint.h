// Where the daemon, or a store, is: `unix:PATH`, `http://HOST:PORT`, `https://HOST:PORT`.
#pragma once

#include <string>
#include <string_view>

namespace orch::launch {

struct Endpoint {
  std::string socket;  // a Unix socket's path; empty: host and port
  std::string host;
  std::string port;
  bool tls = false;
  std::string prefix;  // of every path; no slash at its end

  // For the Host header.
  std::string authority() const;
};

// False if it is none of these.
bool ParseEndpoint(std::string_view text, Endpoint* out);
// A whole URL as an endpoint and what follows it (path and query, at least `/`).
bool ParseUrl(std::string_view url, Endpoint* out, std::string* target);

// In a path: everything but letters, digits and `-._~/` is escaped.
std::string EscapePath(std::string_view path);

}  // namespace orch::launch
