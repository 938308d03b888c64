// How a Docker engine is, from asking it.
#pragma once

#include "backends/api/backend.h"
#include "backends/docker/config.h"
#include "backends/docker/engine_client.h"

namespace orch::docker {

// Why the engine did not answer well, for people.
std::string WordsOf(const Answer& answer, const Config& config);

// Over a connection of its own; waits for at most ten seconds.
ProbeReport ProbeEngine(const Config& config);

}  // namespace orch::docker
