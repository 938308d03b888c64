// What a step made and how it ended, left where the daemon will look, since it does not answer: at the addresses that
// came with the task, or in the step's work folder.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client/launch/daemon.h"

namespace orch::launch {

// `end` as POST end has it. `outputs`: whether what the step made counts; what was published early, which has a file in
// `published`, is with the daemon already. `launcher`: the id that the attempt was begun with.
std::optional<Fault> LeaveBehind(Daemon& daemon, const nlohmann::json& task, const std::string& launcher,
                                 nlohmann::json end, bool outputs, const std::string& published);

}  // namespace orch::launch
