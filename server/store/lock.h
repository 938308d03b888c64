// One daemon per data directory: an advisory lock on DATA/orchd.lock, which holds the owner's pid as text.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace orch::store {

// Held until destroyed or the process ends, however it ends. Not inherited by programs started later.
class DataDirLock {
 public:
  // FAILED_PRECONDITION (DATA_DIR_LOCKED) names the pid of the owner; (DATA_DIR_UNUSABLE) if the file cannot be made.
  static absl::StatusOr<std::unique_ptr<DataDirLock>> Take(const std::string& data_dir);
  ~DataDirLock();
  DataDirLock(const DataDirLock&) = delete;
  DataDirLock& operator=(const DataDirLock&) = delete;

 private:
  explicit DataDirLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace orch::store
