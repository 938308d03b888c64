// How far the write-ahead log reads, found by its checksums as SQLite itself does: what comes after the first frame
// that does not fit is dropped there without a word.
#pragma once

#include <sqlite3.h>

#include <cstdint>

namespace orch::store {

// A place in a log. The salts are new each time that the log starts again.
struct LogPosition {
  uint64_t salts = 0;  // 0: no log
  int64_t frames = 0;  // the last one ends a commit
};

// Where the log of `db`, which has read something already, ends. A header with a wrong checksum is no log to SQLite,
// nor here. Throws SQLite::Exception.
LogPosition ScanLog(sqlite3* db);

// The file of the log, nullptr if there is none.
sqlite3_file* LogFile(sqlite3* db);

// The salts in the header of the log. Throws SQLite::Exception.
uint64_t SaltsOf(sqlite3_file* log);

}  // namespace orch::store
