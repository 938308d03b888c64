// Time for everybody outside the core; the core gets it as an argument.
#pragma once

#include <cstdint>
#include <string>

namespace orch {

// One instant on two clocks, both in microseconds. `mono` (CLOCK_BOOTTIME) decides, `wall` (UTC since 1970) is shown.
struct Now {
  int64_t mono = 0;
  int64_t wall = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual orch::Now Now() const = 0;
  // The process-wide real clock.
  static const Clock& Real();
};

// The kernel's id of the present boot; empty where there is none.
std::string BootId();

// `2026-11-24T15:20:41.123456Z`.
std::string FormatTime(int64_t wall_micros);

}  // namespace orch
