// `orch-launch run`: an attempt that shares no files with the daemon, from its task to its end.
//
// Fetches what the step reads, runs its command, delivers what it made, and tells how it ended. Nothing is believed
// twice: a launcher that a platform started again is turned away, and one whose attempt is over ends its command.
#pragma once

#include <string>

namespace orch::launch {

// The exit code: the command's; 128 and its signal; 125 if the launcher itself could not do its part.
// `task_file`: a task that was handed over whole, with all that the step reads; empty: the daemon has it.
int Run(const std::string& task_file);

}  // namespace orch::launch
