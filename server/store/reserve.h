// Space kept for what is already accepted: a file of zeros that is given back when the disk is full.
#pragma once

#include <cstdint>
#include <string>

#include "server/base/mutex.h"

namespace orch::store {

// Any thread.
class Reserve {
 public:
  // Makes DATA/reserve of `bytes` if there is room. Never fails: without it the disk counts as low on space.
  Reserve(std::string data_dir, int64_t bytes);

  // Gives the space back. False if there was none to give.
  bool Free();

  // True while free space is under twice the reserve, or the reserve is not there. Asks the file system at most once a
  // second, and makes the reserve again once there is room for it and twice as much more.
  bool LowOnSpace();

 private:
  int64_t FreeBytes() const;  // -1: unknown
  void Ensure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Measure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string data_dir_;
  const std::string path_;
  const int64_t bytes_;
  Mutex mutex_;
  bool present_ ABSL_GUARDED_BY(mutex_) = false;
  bool unsupported_ ABSL_GUARDED_BY(mutex_) = false;  // the file system cannot allocate ahead
  bool low_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t measured_micros_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace orch::store
