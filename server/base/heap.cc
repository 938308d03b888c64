#include "server/base/heap.h"

#include <malloc.h>

namespace orch {
namespace {

constexpr int kArenas = 2;  // one for each thread would cost most of the memory of an idle daemon
// Left alone, both grow with what is freed, up to 32 and 64 MiB.
constexpr int kLeastMapped = 4 << 20;
constexpr int kMostAtTop = 8 << 20;

}  // namespace

void SetUpHeap() {
  mallopt(M_ARENA_MAX, kArenas);
  mallopt(M_MMAP_THRESHOLD, kLeastMapped);
  mallopt(M_TRIM_THRESHOLD, kMostAtTop);
  // malloc_trim passes over the top of every arena but the first. The others give theirs back when what is freed grows
  // it, but not for small blocks that were put aside and are put together all at once.
  mallopt(M_MXFAST, 0);
}

void GiveHeapBack() { malloc_trim(0); }

}  // namespace orch
