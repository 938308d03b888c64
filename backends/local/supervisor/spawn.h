// Making a step's process.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "backends/local/wire.h"

namespace orch::local {

struct SpawnResult {
  pid_t pid = 0;  // 0: it failed, `end` says how
  End end;
};

// The command in its own session, with these descriptors as its stdin, stdout and stderr, in the group of `cgroup_fd`
// (-1: none), with signals as at the start of a program and nothing else open. The program is searched in the command's
// own PATH. Returns when the program runs or has failed to.
SpawnResult SpawnProcess(const Spawn& spawn, int in_fd, int out_fd, int err_fd, int cgroup_fd);

// This process leaves no core dump, its steps may as they might have; and the way back.
void DumpNoCore();
void AllowCore();

}  // namespace orch::local
