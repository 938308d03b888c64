// Seeds of worlds that once broke something, one a line in seeds.txt with a word on what it was. They always run.
#pragma once

#include <cstdint>
#include <vector>

namespace orch::sim {

std::vector<uint64_t> ListedSeeds();

}  // namespace orch::sim
