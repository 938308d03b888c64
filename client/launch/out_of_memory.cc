#include "client/launch/out_of_memory.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "client/launch/files.h"

namespace orch::launch {

int64_t OomKills() {
  std::string text;
  std::string error;
  if (!ReadWhole("/sys/fs/cgroup/memory.events", &text, &error) &&
      !ReadWhole("/sys/fs/cgroup/memory/memory.oom_control", &text, &error)) {
    return -1;
  }
  const size_t at = text.find("oom_kill ");
  return at == std::string::npos ? -1 : atoll(text.c_str() + at + strlen("oom_kill "));
}

}  // namespace orch::launch
