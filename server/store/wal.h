// The write-ahead log's file: its size and when it is written back.
#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>

#include "server/store/wal_scan.h"

namespace orch::store {

// Belongs to the writing connection, the only one that checkpoints. Thread: that connection's.
class Wal {
 public:
  // `db` must outlive it. `grow_bytes`: the file is written with zeros up to this size, since overwriting syncs faster
  // than growing. From `soft_bytes` on it is written back. Throws SQLite::Exception if the disk fails, not if it is
  // full.
  Wal(SQLite::Database* db, int64_t grow_bytes, int64_t soft_bytes);
  ~Wal();
  Wal(const Wal&) = delete;
  Wal& operator=(const Wal&) = delete;

  // Bytes of the log that hold commits.
  int64_t bytes() const { return bytes_; }

  // True if MaybeCheckpoint would cut the file now, when idle.
  bool WillCut() const { return bytes_ >= next_at_ && bytes_ >= 4 * soft_bytes_; }

  // Where the last commit ends.
  LogPosition end() const { return end_; }

  // Above the soft bound: writes back what no reader needs, and the log starts anew at the next commit if that was all.
  // While there is work (not `idle`) only if many commits share the cost, or the log is eight times as large. Above
  // four times the bound, when idle: also waits up to 200 ms for readers and gives the file's space back. Throws
  // SQLite::Exception.
  void MaybeCheckpoint(bool idle);

 private:
  static int OnCommit(void* self, sqlite3* db, const char* name, int pages);
  void Grow();
  void SyncCut();

  SQLite::Database* const db_;
  const int64_t grow_bytes_;
  const int64_t soft_bytes_;
  int64_t page_bytes_;
  LogPosition end_;
  int64_t bytes_ = 0;
  int64_t commits_ = 0;  // in these bytes
  int64_t next_at_;
};

}  // namespace orch::store
