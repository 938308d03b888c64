// What the C library keeps of the memory that was freed. Any thread.
#pragma once

namespace orch {

// Before there are other threads: few arenas, which keep little at their tops.
void SetUpHeap();

// Gives back to the system what was freed. Others' allocations wait meanwhile.
void GiveHeapBack();

}  // namespace orch
