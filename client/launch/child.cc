#include "client/launch/child.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "client/launch/daemon.h"
#include "client/launch/files.h"

namespace orch::launch {
namespace {

// Every process and its parent.
std::map<pid_t, pid_t> Parents() {
  std::map<pid_t, pid_t> out;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return out;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    std::string stat;
    std::string error;
    if (!ReadWhole(std::string("/proc/") + entry->d_name + "/stat", &stat, &error)) continue;
    const size_t end = stat.rfind(')');  // the name before it may hold anything
    char state = 0;
    int parent = 0;
    if (end == std::string::npos || sscanf(stat.c_str() + end + 1, " %c %d", &state, &parent) != 2) continue;
    if (state != 'Z' && state != 'X') out[pid] = parent;
  }
  closedir(proc);
  return out;
}

}  // namespace

void AdoptOrphans() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

std::string FindProgram(const std::string& word, const std::string& path, const std::string& working_dir) {
  const auto usable = [&](const std::string& name) {
    const std::string full = name[0] == '/' ? name : working_dir + "/" + name;
    struct stat st {};
    return stat(full.c_str(), &st) == 0 && S_ISREG(st.st_mode) && access(full.c_str(), X_OK) == 0;
  };
  if (word.find('/') != std::string::npos) return usable(word) ? word : "";
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find(':', at), path.size());
    const std::string folder = end == at ? "." : path.substr(at, end - at);
    if (usable(folder + "/" + word)) return folder + "/" + word;
    at = end + 1;
  }
  return "";
}

int StartChild(const ChildSpec& spec, pid_t* pid) {
  std::string path;
  std::vector<char*> words;
  std::vector<char*> environment;
  for (const std::string& word : spec.command) words.push_back(const_cast<char*>(word.c_str()));
  for (const std::string& variable : spec.environment) {
    if (variable.compare(0, 5, "PATH=") == 0) path = variable.substr(5);
    environment.push_back(const_cast<char*>(variable.c_str()));
  }
  words.push_back(nullptr);
  environment.push_back(nullptr);
  const std::string program = FindProgram(spec.command[0], path, spec.working_dir);
  if (program.empty()) return ENOENT;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  if (spec.stdout_fd != 1) posix_spawn_file_actions_adddup2(&files, spec.stdout_fd, 1);
  if (spec.stderr_fd != 2) posix_spawn_file_actions_adddup2(&files, spec.stderr_fd, 2);
  posix_spawn_file_actions_addchdir_np(&files, spec.working_dir.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  const int error = posix_spawn(pid, program.c_str(), &files, &attributes, words.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

void SignalAll(int signal) {
  const std::map<pid_t, pid_t> parents = Parents();
  std::set<pid_t> below = {getpid()};
  for (bool more = true; more;) {
    more = false;
    for (const auto& [pid, parent] : parents) {
      if (below.count(parent) > 0 && below.insert(pid).second) more = true;
    }
  }
  below.erase(getpid());
  for (const pid_t pid : below) kill(pid, signal);
}

void EndAll() {
  for (int wait = 1;; wait = std::min(2 * wait, 50)) {
    SignalAll(SIGKILL);
    for (;;) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG);
      if (pid > 0) continue;
      if (pid < 0 && errno == EINTR) continue;
      if (pid < 0) return;  // no child is left
      break;
    }
    Pause(wait);
  }
}

}  // namespace orch::launch
