// The highest state that was ever acknowledged, kept beside the database, so that a log that was cut, damaged or
// removed is not taken for all there is: SQLite drops what it cannot read of its log without a word.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/store/wal_scan.h"

namespace orch::store {

// DATA/high-water, one line. Written after each commit and mostly not synced: after a power cut it may be behind the
// database, but not ahead of it. Thread: one at a time.
class HighWater {
 public:
  // Reads what an earlier process left. What cannot be read counts as nothing.
  explicit HighWater(const std::string& data_dir);
  ~HighWater();
  HighWater(const HighWater&) = delete;
  HighWater& operator=(const HighWater&) = delete;

  struct Mark {
    std::string instance;  // empty: a new database
    int64_t epoch = 0;
    int64_t sequence = 0;
    LogPosition log;
  };

  // DATA_LOSS (DATABASE_CORRUPT) if the database at `path`, which stands at `now`, lacks what was acknowledged.
  absl::Status Check(const std::string& path, const Mark& now) const;

  // Nothing is known of an earlier process.
  bool empty() const { return mark_.instance.empty(); }
  const Mark& mark() const { return mark_; }

  // Notes what is durable now. Without the file nothing is noted and nothing checked later.
  void Note(const Mark& now);
  void NoteAndSync(const Mark& now);

 private:
  const std::string path_;
  int fd_;
  Mark mark_;
};

}  // namespace orch::store
