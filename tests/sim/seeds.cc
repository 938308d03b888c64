#include "tests/sim/seeds.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

namespace orch::sim {

std::vector<uint64_t> ListedSeeds() {
  std::ifstream in(ORCH_SIM_SEEDS);
  if (!in) {
    std::fprintf(stderr, "sim: %s cannot be read\n", ORCH_SIM_SEEDS);
    std::exit(2);
  }
  std::vector<uint64_t> seeds;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line[0] != '#') seeds.push_back(std::strtoull(line.c_str(), nullptr, 10));
  }
  return seeds;
}

}  // namespace orch::sim
