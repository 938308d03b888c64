// Starting a daemon for this user when there is none.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/lib/discovery.h"

namespace orch::client {

struct StartedDaemon {
  Endpoint endpoint;
  int64_t pid = 0;
  // False: somebody else started one at the same moment, and that is the one to use.
  bool ours = false;
};

// Starts `orchd` (beside this program, else on PATH) on the data directory of `options`, in a session of its own, with
// its output in DIR/orchd.log, and waits until it listens. The daemon outlives this process. It gets the default ports;
// if it ends at once with those (another user's daemon has them), ports chosen by the kernel.
// NOT_FOUND (ORCHD_NOT_FOUND): no such program. UNAVAILABLE (DAEMON_START_FAILED): it ended or did not serve in time;
// the message has the end of its log.
absl::StatusOr<StartedDaemon> StartDaemon(const DiscoveryOptions& options);

// The program that StartDaemon would run.
absl::StatusOr<std::string> FindDaemonProgram();

}  // namespace orch::client
