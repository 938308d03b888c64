#include "tests/store/failing_memory.h"

#include <sqlite3.h>

#include <atomic>

namespace orch::store {
namespace {

std::atomic<int64_t> calls{0};
std::atomic<int64_t> fail_at{-1};
std::atomic<bool> fail_sticky{false};
sqlite3_mem_methods real;

bool Fails() {
  const int64_t call = calls.fetch_add(1, std::memory_order_relaxed);
  const int64_t at = fail_at.load(std::memory_order_relaxed);
  return at >= 0 && (fail_sticky.load(std::memory_order_relaxed) ? call >= at : call == at);
}
void* Allocate(int n) { return Fails() ? nullptr : real.xMalloc(n); }
void* Reallocate(void* old, int n) { return Fails() ? nullptr : real.xRealloc(old, n); }

// SQLite takes it only before its first use.
const bool in_place = [] {
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
  sqlite3_mem_methods ours = real;
  ours.xMalloc = &Allocate;
  ours.xRealloc = &Reallocate;
  return sqlite3_config(SQLITE_CONFIG_MALLOC, &ours) == SQLITE_OK;
}();

}  // namespace

int64_t MemoryCalls() { return calls.load(); }

void FailMemoryAt(int64_t at, bool sticky) {
  if (!in_place) __builtin_trap();
  fail_sticky = sticky;
  fail_at = calls.load() + at;
}

void FailMemoryNever() { fail_at = -1; }

}  // namespace orch::store
