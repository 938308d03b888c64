// What begins a step in a container: it takes what nobody else may see from files, and becomes the step's command.
#pragma once

#include <string>
#include <vector>

namespace orch::launch {

// `folder` has up to three folders, in each a file for each variable, named as it:
//
//   plain/NAME   the variable gets the file's bytes, which may be in the log
//   env/NAME     the same for a secret, which may not
//   file/NAME    the variable gets the file's path; its bytes are a secret
//
// Without secrets the process becomes the command. Otherwise, or if it is to `stay`, it takes the secrets out of what
// the command writes, passes signals on, and ends as the command ends, with 128 and the signal's number if that was
// one. What the command leaves running is not waited for. If it did not end well, and the kernel had ended a process of
// its for want of memory, the last line of stderr says so (kOutOfMemory begins it): platforms miss that now and then.
// The container's control group has to be its own.
//
// `folder` may be `-`: there is none.
//
// Returns only then, or with an exit code and a word on stderr: 125 if the folder cannot be read, 126 or 127 if the
// command cannot be executed (kCannotExecute begins the word).
int Enter(const std::string& folder, const std::vector<std::string>& command, bool stay);

inline constexpr char kCannotExecute[] = "orch-launch: cannot execute ";
inline constexpr char kOutOfMemory[] = "orch-launch: out of memory: ";

}  // namespace orch::launch
