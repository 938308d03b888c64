// Brings what a step reads from the daemon to its workspace: whole, and with the digest that the task names.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client/launch/daemon.h"

namespace orch::launch {

// All inputs, the parameters and the source of a task. A fault ends the attempt before its command begins.
std::optional<Fault> FetchAll(Daemon& daemon, const nlohmann::json& task);

}  // namespace orch::launch
