#include "server/base/startup_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "server/base/heap.h"

namespace orch {

void ReleaseStartupPages() {
  GiveHeapBack();
  FILE* maps = fopen("/proc/self/smaps", "re");
  if (maps == nullptr) return;
  char line[4096];
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool can_be_had_again = false;
  while (fgets(line, sizeof(line), maps) != nullptr) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    char rights[5] = "";
    char path[8] = "";
    const int found = sscanf(line, "%lx-%lx %4s %*s %*s %*s %7s", &from, &to, rights, path);
    if (found >= 3) {  // a mapping; what is told of it follows
      begin = from;
      end = to;
      can_be_had_again = found == 4 && (strcmp(rights, "r-xp") == 0 || strcmp(rights, "r--p") == 0) && path[0] == '/';
      continue;
    }
    // Of what was written to before it was protected, as relocated tables are, the file has another text.
    unsigned long kib = 0;
    if (sscanf(line, "Anonymous: %lu kB", &kib) == 1 && kib == 0 && can_be_had_again) {
      madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }
  fclose(maps);
}

}  // namespace orch
