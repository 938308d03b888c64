#include "backends/local/supervisor/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <utility>

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

std::map<pid_t, Stat> Living() {
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
  return all;
}

// True if a variable of the process begins with `mark`; `whole`: and is nothing more.
bool HasVariable(pid_t pid, const std::string& mark, bool whole) {
  std::string environ;
  if (!ReadFile("/proc/" + std::to_string(pid) + "/environ", &environ)) return false;
  for (size_t at = environ.find(mark); at != std::string::npos; at = environ.find(mark, at + 1)) {
    const bool begins = at == 0 || environ[at - 1] == '\0';
    const size_t end = at + mark.size();
    if (begins && (!whole || end == environ.size() || environ[end] == '\0')) return true;
  }
  return false;
}

std::vector<pid_t> WithDescendants(const std::map<pid_t, Stat>& all, std::set<pid_t> found) {
  const pid_t self = getpid();
  for (bool grew = true; grew;) {
    grew = false;
    for (const auto& [pid, stat] : all) {
      if (pid != self && found.count(pid) == 0 && found.count(stat.parent) > 0) grew = found.insert(pid).second || grew;
    }
  }
  return {found.begin(), found.end()};
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
  const std::map<pid_t, Stat> all = Living();
  const std::string mark = "ORCH_FENCE=" + key;
  std::set<pid_t> found;
  for (const auto& [pid, stat] : all) {
    if (pid == getpid()) continue;
    if (pid == main || (main != 0 && stat.session == main) || HasVariable(pid, mark, true)) found.insert(pid);
  }
  return WithDescendants(all, std::move(found));
}

std::vector<Child> LivingChildren() {
  std::vector<Child> out;
  const std::string self = std::to_string(getpid());
  std::string text;
  if (!ReadFile("/proc/self/task/" + self + "/children", &text)) return out;
  const char* p = text.c_str();
  for (char* end = nullptr; *p != '\0'; p = end) {
    const long pid = strtol(p, &end, 10);
    if (end == p) break;
    Stat stat;
    if (!ReadStat(static_cast<pid_t>(pid), &stat) || stat.state == 'Z' || stat.state == 'X') continue;
    Child& child = out.emplace_back();
    child.pid = static_cast<pid_t>(pid);
    std::string environ;
    child.no_variables = !ReadFile("/proc/" + std::to_string(pid) + "/environ", &environ) || environ.empty();
    const std::string mark = std::string(1, '\0') + "ORCH_FENCE=";
    environ.insert(0, 1, '\0');
    const size_t at = environ.find(mark);
    if (at != std::string::npos) child.fence = environ.c_str() + at + mark.size();
  }
  return out;
}

std::vector<pid_t> FindProcessesOf(const std::string& data_dir) {
  const std::map<pid_t, Stat> all = Living();
  std::set<pid_t> found;
  for (const auto& [pid, stat] : all) {
    if (pid != getpid() && HasVariable(pid, "ORCH_SCRATCH=" + data_dir + "/local/slots/", false)) found.insert(pid);
  }
  return WithDescendants(all, std::move(found));
}

}  // namespace orch::local
