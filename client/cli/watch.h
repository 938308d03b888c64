// Following a run to its end.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/session.h"

namespace orch::cli {

struct Followed {
  v1::Run run;            // as it is when following ended
  bool detached = false;  // by Ctrl-C; how to come back has been printed
};

// Shows the progress on stderr: a live table if that is a terminal, lines otherwise.
absl::StatusOr<Followed> FollowRun(Session& session, client::Client& client, const std::string& run);

// Waits in silence, at most for `timeout`.
absl::StatusOr<Followed> AwaitRun(Session& session, client::Client& client, const std::string& run,
                                  std::optional<std::chrono::milliseconds> timeout);

}  // namespace orch::cli
