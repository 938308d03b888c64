// In a task of a run that is on its platform as a whole: which attempt there is to run.
#pragma once

#include <optional>
#include <string>

namespace orch::launch {

// Asks by ORCH_ENDPOINT and ORCH_TASK until there is an attempt, and sets ORCH_TOKEN, ORCH_FENCE and ORCH_ATTEMPT to
// it. The exit code instead if there is none to come, the daemon does not answer, or `signals`, a signalfd, has a
// SIGTERM or SIGINT meanwhile.
std::optional<int> AwaitAttempt(const std::string& launcher, int signals);

}  // namespace orch::launch
