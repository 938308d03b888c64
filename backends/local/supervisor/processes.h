// Finding and reading processes through /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace orch::local {

// When the process started, in clock ticks since boot; 0 if there is no such process. Tells a reused pid.
int64_t StartTicks(pid_t pid);
// The state letter (`R`, `Z`, …); 0 if there is no such process.
char StateOf(pid_t pid);

// All living processes of a step where there are no cgroups: those in the session of `main`, its descendants, and those
// whose environment has ORCH_FENCE=`key`. Zombies are left out.
std::vector<pid_t> FindStepProcesses(pid_t main, const std::string& key);

// All living processes of any step of a data directory: those whose environment has a scratch folder in it, and their
// descendants.
std::vector<pid_t> FindProcessesOf(const std::string& data_dir);

// A living child of this process. Where there are no cgroups some are orphans of steps.
struct Child {
  pid_t pid = 0;
  std::string fence;          // its ORCH_FENCE; empty: none
  bool no_variables = false;  // in the middle of an exec, mostly
};
std::vector<Child> LivingChildren();

}  // namespace orch::local
