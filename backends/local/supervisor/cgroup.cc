#include "backends/local/supervisor/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace orch::local {
namespace {

constexpr int kBusyTries = 500;  // of 1 ms

std::string ReadSmall(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string out;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n <= 0) break;
    out.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return out;
}

// The mount point of cgroup2, hybrid or not; empty if there is none.
std::string FindMount() {
  const std::string info = ReadSmall("/proc/self/mountinfo");
  size_t at = 0;
  while (at < info.size()) {
    size_t end = info.find('\n', at);
    if (end == std::string::npos) end = info.size();
    const std::string line = info.substr(at, end - at);
    at = end + 1;
    const size_t dash = line.find(" - cgroup2 ");
    if (dash == std::string::npos) continue;
    size_t field = 0;  // the fifth field is the mount point
    for (int i = 0; i < 4; ++i) field = line.find(' ', field) + 1;
    return line.substr(field, line.find(' ', field) - field);
  }
  return "";
}

// This process's own group below the mount.
std::string OwnGroup() {
  const std::string text = ReadSmall("/proc/self/cgroup");
  const size_t at = text.find("0::");
  if (at == std::string::npos) return "";
  return text.substr(at + 3, text.find('\n', at) - at - 3);
}

// Slots have a slash in their name.
std::string Flat(std::string slot) {
  for (char& c : slot) {
    if (c == '/') c = '_';
  }
  return slot;
}

}  // namespace

CgroupPool::CgroupPool(const std::string& name, bool allowed) {
  if (!allowed) return;
  const std::string mount = FindMount();
  if (mount.empty()) return;
  std::string own = OwnGroup();
  if (own == "/") own.clear();
  const std::string base = mount + own + "/" + name;
  if (mkdir(base.c_str(), 0755) != 0 && errno != EEXIST) return;
  base_ = base;
}

CgroupPool::~CgroupPool() {
  for (const auto& [slot, fd] : fds_) close(fd);
}

int CgroupPool::Fd(const std::string& slot) {
  if (!on()) return -1;
  const auto found = fds_.find(slot);
  if (found != fds_.end()) return found->second;
  const std::string path = base_ + "/" + Flat(slot);
  // One that lies there may have been killed, by us or by a supervisor that died: see Renew. It is busy only while the
  // last process is on its way out.
  for (int tries = 0; mkdir(path.c_str(), 0755) != 0; ++tries) {
    if (errno != EEXIST) return -1;
    if (rmdir(path.c_str()) == 0) continue;
    if (tries == kBusyTries) return -1;
    for (const pid_t pid : Processes(base_, slot)) kill(pid, SIGKILL);
    poll(nullptr, 0, 1);
  }
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) fds_[slot] = fd;
  return fd;
}

std::vector<pid_t> CgroupPool::Processes(const std::string& base, const std::string& slot) {
  std::vector<pid_t> out;
  const std::string text = ReadSmall(base + "/" + Flat(slot) + "/cgroup.procs");
  const char* p = text.c_str();
  while (*p != '\0') {
    char* end = nullptr;
    const long pid = strtol(p, &end, 10);
    if (end == p) break;
    if (pid > 0) out.push_back(static_cast<pid_t>(pid));
    p = end;
    while (*p == '\n') ++p;
  }
  return out;
}

void CgroupPool::KillAll(const std::string& base, const std::string& slot) {
  const std::string path = base + "/" + Flat(slot) + "/cgroup.kill";
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    const bool done = write(fd, "1", 1) == 1;
    close(fd);
    if (done) return;
  }
  for (const pid_t pid : Processes(base, slot)) kill(pid, SIGKILL);
}

std::vector<std::string> CgroupPool::Slots(const std::string& base) {
  std::vector<std::string> out;
  if (DIR* dir = opendir(base.c_str())) {
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.') out.emplace_back(entry->d_name);
    }
    closedir(dir);
  }
  return out;
}

void CgroupPool::Renew(const std::string& slot) {
  if (!on()) return;
  const auto found = fds_.find(slot);
  if (found != fds_.end()) {
    close(found->second);
    fds_.erase(found);
  }
  rmdir((base_ + "/" + Flat(slot)).c_str());
}

void CgroupPool::RemoveAll() {
  if (!on()) return;
  for (const auto& [slot, fd] : fds_) {
    close(fd);
    rmdir((base_ + "/" + Flat(slot)).c_str());
  }
  fds_.clear();
  for (const std::string& slot : Slots(base_)) rmdir((base_ + "/" + slot).c_str());
  rmdir(base_.c_str());
}

}  // namespace orch::local
