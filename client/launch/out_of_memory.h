// What the kernel tells a container of its memory.
#pragma once

#include <cstdint>

namespace orch::launch {

// How many processes of this container's control group the kernel has ended for want of memory; -1: it cannot be told.
// Of use where the group is the container's own.
int64_t OomKills();

}  // namespace orch::launch
