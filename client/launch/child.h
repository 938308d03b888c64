// The step's command as a process of its own session, with all that it leaves behind.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace orch::launch {

struct ChildSpec {
  std::vector<std::string> command;
  std::vector<std::string> environment;  // NAME=VALUE
  std::string working_dir;
  int stdout_fd = 1;
  int stderr_fd = 2;
};

// 0 and the process, or an errno of what could not be executed. Signals are as at the start of a program.
int StartChild(const ChildSpec& spec, pid_t* pid);

// Where the command's program is, by the PATH that it will have. Empty: nowhere.
std::string FindProgram(const std::string& word, const std::string& path, const std::string& working_dir);

// Our own children become those of this process when their parent ends, so that nothing is lost.
void AdoptOrphans();
// Sends a signal to every process below this one, once; not to this one.
void SignalAll(int signal);
// Ends all of them and reaps them. Returns when there are none.
void EndAll();

}  // namespace orch::launch
