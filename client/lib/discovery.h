// Where the daemon is and what proves that we may talk to it, and it is the one we mean.
//
// The address: `server` (--server), else ORCH_SERVER, else `server.json` in the data directory. The token:
// `token_file`, else ORCH_TOKEN, else the file ORCH_TOKEN_FILE, else `token` in the data directory, which is never sent
// to another machine. Who signs the daemon's certificate: `ca_file` (--ca), else ORCH_CA, else the system's
// authorities. The data directory: `data_dir` (--data-dir), else ORCH_DATA_DIR, else $XDG_DATA_HOME/orchd, else
// ~/.local/share/orchd.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::client {

struct DiscoveryOptions {
  std::string server;      // `https://HOST:PORT`, `host:port` (of this machine) or `unix:PATH`; empty: see above
  std::string data_dir;    // empty: see above
  std::string token_file;  // empty: see above
  std::string ca_file;     // PEM; empty: see above
};

struct Endpoint {
  // `127.0.0.1:7117`, `unix:/path`, or with TLS `https://host:7433`.
  std::string address;
  // Empty: none was found. The Unix socket needs none.
  std::string token;
  // For messages: who named the address (`--server`, `ORCH_SERVER`, or a file) and where the token came from.
  std::string origin;
  std::string token_origin;
  // With TLS: the certificates (PEM) one of which has to have signed the daemon's, and the file they are from; empty:
  // the system's.
  std::string ca_pem;
  std::string ca_origin;
  std::string data_dir;
  // From server.json; 0 and empty when the address was given.
  int64_t pid = 0;
  std::string http;
};

// The data directory by the rules above. FAILED_PRECONDITION (DATA_DIR_UNKNOWN) if there is no HOME.
absl::StatusOr<std::string> DataDir(const DiscoveryOptions& options);

// True if an address was given by flag or environment: then no daemon is started by us.
bool ServerGiven(const DiscoveryOptions& options);

// Finds the daemon without talking to it, except that the Unix socket is tried with one connect().
// UNAVAILABLE (DAEMON_NOT_RUNNING): there is no server.json, or its daemon is gone. INVALID_ARGUMENT
// (SERVER_ADDRESS_INVALID): the address is malformed, or of another machine and without TLS. INVALID_ARGUMENT
// (TOKEN_UNREADABLE, CA_UNREADABLE).
absl::StatusOr<Endpoint> Discover(const DiscoveryOptions& options);

// An address in the form of Endpoint; accepts `https://HOST:PORT`, `host:port`, `unix:PATH` and an absolute path.
absl::StatusOr<std::string> NormalAddress(absl::string_view address);

// True for an address in normal form that TLS is spoken with.
bool UsesTls(absl::string_view address);

}  // namespace orch::client
