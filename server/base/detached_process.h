// Starts a process that has nothing of this one but what it is given: a session of its own, every signal unblocked and
// at its default, and those descriptors alone that are named.
#pragma once

#include <spawn.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace orch {

class DetachedProcess {
 public:
  DetachedProcess();
  ~DetachedProcess();
  DetachedProcess(const DetachedProcess&) = delete;
  DetachedProcess& operator=(const DetachedProcess&) = delete;

  // What the process does before it runs the program, in this order.
  DetachedProcess& Open(int fd, const std::string& path, int flags, mode_t mode = 0);
  DetachedProcess& Duplicate(int from, int to);
  DetachedProcess& CloseFrom(int lowest);
  DetachedProcess& ChangeFolder(const std::string& path);

  // 0, or errno. `words[0]` is the program's path; `environment` null: this process's. Once.
  int Start(const std::vector<std::string>& words, const std::vector<std::string>* environment, pid_t* pid);

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace orch
