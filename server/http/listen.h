// Listening sockets.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::http {

struct HostPort {
  std::string host;  // an IP address, or `localhost`
  uint16_t port = 0;
};
// `127.0.0.1:7433`, `[::1]:0`, `localhost:0`. INVALID_ARGUMENT (ADDRESS_INVALID).
absl::StatusOr<HostPort> ParseAddress(absl::string_view text);
bool IsLoopback(absl::string_view host);

// A non-blocking listening descriptor, and the address with its real port. UNAVAILABLE (ADDRESS_IN_USE).
absl::StatusOr<std::pair<int, std::string>> ListenTcp(const HostPort& address);
// Replaces what an earlier daemon left there; the socket is 0600.
absl::StatusOr<int> ListenUnix(const std::string& path);

}  // namespace orch::http
