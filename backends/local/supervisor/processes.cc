#include "backends/local/supervisor/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

namespace orch::local {
namespace {

struct Stat {
  char state = 0;
  pid_t parent = 0;
  pid_t session = 0;
  int64_t start_ticks = 0;
};

bool ReadFile(const std::string& path, std::string* out) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  out->clear();
  char buffer[8192];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n <= 0) break;
    out->append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return true;
}

bool ReadStat(pid_t pid, Stat* out) {
  std::string text;
  if (!ReadFile("/proc/" + std::to_string(pid) + "/stat", &text)) return false;
  const size_t close_paren = text.rfind(')');  // the name before it may hold anything
  if (close_paren == std::string::npos || close_paren + 2 >= text.size()) return false;
  const char* p = text.c_str() + close_paren + 2;
  out->state = *p++;
  char* end = nullptr;
  for (int field = 4; field <= 22; ++field) {
    const long long v = strtoll(p, &end, 10);
    if (end == p) return false;
    p = end;
    if (field == 4) out->parent = static_cast<pid_t>(v);
    if (field == 6) out->session = static_cast<pid_t>(v);
    if (field == 22) out->start_ticks = v;
  }
  return true;
}

}  // namespace

int64_t StartTicks(pid_t pid) {
  Stat stat;
  return ReadStat(pid, &stat) ? stat.start_ticks : 0;
}

char StateOf(pid_t pid) {
  Stat stat;
  return ReadStat(pid, &stat) ? stat.state : '\0';
}

std::vector<pid_t> FindStepProcesses(pid_t main, const std::string& key) {
  std::map<pid_t, Stat> all;
  if (DIR* dir = opendir("/proc")) {
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
      const auto pid = static_cast<pid_t>(atoi(entry->d_name));
      Stat stat;
      if (ReadStat(pid, &stat) && stat.state != 'Z' && stat.state != 'X') all[pid] = stat;
    }
    closedir(dir);
  }
  const std::string mark = "ORCH_FENCE=" + key;
  const pid_t self = getpid();
  std::set<pid_t> found;
  for (const auto& [pid, stat] : all) {
    if (pid == self) continue;
    if (pid == main || (main != 0 && stat.session == main)) {
      found.insert(pid);
      continue;
    }
    std::string environ;
    if (!ReadFile("/proc/" + std::to_string(pid) + "/environ", &environ)) continue;
    size_t at = environ.find(mark);
    while (at != std::string::npos) {
      const bool begins = at == 0 || environ[at - 1] == '\0';
      const size_t end = at + mark.size();
      if (begins && (end == environ.size() || environ[end] == '\0')) {
        found.insert(pid);
        break;
      }
      at = environ.find(mark, at + 1);
    }
  }
  for (bool grew = true; grew;) {  // descendants of what has been found
    grew = false;
    for (const auto& [pid, stat] : all) {
      if (pid != self && found.count(pid) == 0 && found.count(stat.parent) > 0) grew = found.insert(pid).second || grew;
    }
  }
  return {found.begin(), found.end()};
}

}  // namespace orch::local
