// Brings this program into a folder that a container without it shares.
#pragma once

#include <string>

namespace orch::launch {

// As FOLDER/orch-launch, for everybody to execute, whole or not at all. What went wrong; empty: nothing.
std::string Install(const std::string& folder);

}  // namespace orch::launch
