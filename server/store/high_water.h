// The highest state that was ever acknowledged, kept beside the database, so that a log that was cut, damaged or
// removed is not taken for all there is: SQLite drops what it cannot read of its log without a word.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace orch::store {

// DATA/high-water, one line. Written after each commit and never synced: it may be behind the database, after a power
// cut, but not ahead of it. Thread: one at a time.
class HighWater {
 public:
  // Reads what an earlier process left. What cannot be read counts as nothing.
  explicit HighWater(const std::string& data_dir);
  ~HighWater();
  HighWater(const HighWater&) = delete;
  HighWater& operator=(const HighWater&) = delete;

  // DATA_LOSS (DATABASE_CORRUPT) if the database at `path`, which stands at this epoch and sequence, lacks what was
  // acknowledged. `instance` empty: it is new.
  absl::Status Check(const std::string& path, const std::string& instance, int64_t epoch, int64_t sequence) const;

  // Notes what is durable now. Without the file nothing is noted and nothing checked later.
  void Note(const std::string& instance, int64_t epoch, int64_t sequence);

 private:
  const std::string path_;
  int fd_;
  std::string instance_;
  int64_t epoch_ = 0;
  int64_t sequence_ = 0;
};

}  // namespace orch::store
