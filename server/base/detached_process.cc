#include "server/base/detached_process.h"

#include <csignal>

extern char** environ;

namespace orch {

DetachedProcess::DetachedProcess() {
  posix_spawn_file_actions_init(&actions_);
  posix_spawnattr_init(&attributes_);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes_, &none);
  posix_spawnattr_setsigdefault(&attributes_, &all);
  posix_spawnattr_setflags(&attributes_,
                           static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
}

DetachedProcess::~DetachedProcess() {
  posix_spawn_file_actions_destroy(&actions_);
  posix_spawnattr_destroy(&attributes_);
}

DetachedProcess& DetachedProcess::Open(int fd, const std::string& path, int flags, mode_t mode) {
  posix_spawn_file_actions_addopen(&actions_, fd, path.c_str(), flags, mode);
  return *this;
}

DetachedProcess& DetachedProcess::Duplicate(int from, int to) {
  posix_spawn_file_actions_adddup2(&actions_, from, to);
  return *this;
}

DetachedProcess& DetachedProcess::CloseFrom(int lowest) {
  posix_spawn_file_actions_addclosefrom_np(&actions_, lowest);
  return *this;
}

DetachedProcess& DetachedProcess::ChangeFolder(const std::string& path) {
  posix_spawn_file_actions_addchdir_np(&actions_, path.c_str());
  return *this;
}

int DetachedProcess::Start(const std::vector<std::string>& words, const std::vector<std::string>* environment,
                           pid_t* pid) {
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> out;
    out.reserve(texts.size() + 1);
    for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
    out.push_back(nullptr);
    return out;
  };
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> env = environment == nullptr ? std::vector<char*>() : pointers(*environment);
  return posix_spawn(pid, argv[0], &actions_, &attributes_, argv.data(), environment == nullptr ? environ : env.data());
}

}  // namespace orch
