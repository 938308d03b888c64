#include "server/base/startup_pages.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace orch {

void ReleaseStartupPages() {
  malloc_trim(0);
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return;
  char line[4096];
  while (fgets(line, sizeof(line), maps) != nullptr) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char rights[5] = "";
    char path[8] = "";
    // Private, readable, executable, never written to, and with a file behind it: only such pages can be had again.
    if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %7s", &begin, &end, rights, path) != 4) continue;
    if (strcmp(rights, "r-xp") != 0 || path[0] != '/') continue;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
  fclose(maps);
}

}  // namespace orch
