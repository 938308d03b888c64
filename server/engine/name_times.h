// Times for the names of runs: two that come in the same microsecond get two names.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace orch {

class NameTimes {
 public:
  // `wall` in microseconds, or later: behind every one that was given. Any thread.
  int64_t Next(int64_t wall) {
    int64_t before = newest_.load();
    while (!newest_.compare_exchange_weak(before, std::max(wall, before + 1))) {
    }
    return std::max(wall, before + 1);
  }

 private:
  std::atomic<int64_t> newest_{0};
};

}  // namespace orch
