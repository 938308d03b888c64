// A double of SQLite's allocator that runs out at a chosen call. In place for the whole program, and harmless until
// told.
#pragma once

#include <cstdint>

namespace orch::store {

// Allocations so far.
int64_t MemoryCalls();
// The `at`-th allocation from now on (from 0) fails; if `sticky`, all after it.
void FailMemoryAt(int64_t at, bool sticky);
void FailMemoryNever();

}  // namespace orch::store
