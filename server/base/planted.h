// Bugs on purpose, to see whether the tests find them: ORCH_PLANTED("name") is false at compile time, unless the build
// has -DORCH_PLANTED_BUGS=ON (the preset `planted`); then it is true in a process whose environment has ORCH_PLANTED
// set to that name. tests/sim/planted runs them all.
#pragma once

#ifdef ORCH_PLANTED_BUGS

#include <cstdlib>
#include <cstring>

namespace orch {

inline bool Planted(const char* name) {
  static const char* const chosen = std::getenv("ORCH_PLANTED");
  return chosen != nullptr && std::strcmp(chosen, name) == 0;
}

// `ORCH_PLANTED=NAME` for a child whose environment is written out; nullptr: nothing is planted.
inline const char* PlantedVariable() {
  const char* chosen = std::getenv("ORCH_PLANTED");
  return chosen == nullptr ? nullptr : chosen - std::strlen("ORCH_PLANTED=");
}

}  // namespace orch

#define ORCH_PLANTED(name) (::orch::Planted(name))

#else

namespace orch {
constexpr const char* PlantedVariable() { return nullptr; }
}  // namespace orch

#define ORCH_PLANTED(name) (false)

#endif
