#include "server/store/sqlite_status.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::store {

bool IsFull(const SQLite::Exception& e) { return (e.getErrorCode() & 0xff) == SQLITE_FULL; }

absl::Status Damaged(absl::string_view what) {
  return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
               absl::StrCat(what,
                            ": the database is damaged; stop orchd, then put a backup in its place (orchd --restore "
                            "BACKUP), or what can still be read (orchd --salvage DATA_DIR/orchd.db), or start with an "
                            "empty data directory"));
}

absl::Status FromSqlite(const SQLite::Exception& e, absl::string_view doing) {
  const std::string what = absl::StrCat(doing, " failed: ", e.what(), " (SQLite code ", e.getExtendedErrorCode(), ")");
  if (e.getExtendedErrorCode() == SQLITE_IOERR_CORRUPTFS || e.getExtendedErrorCode() == SQLITE_IOERR_DATA) {
    return Damaged(what);
  }
  if (e.getExtendedErrorCode() == SQLITE_IOERR_NOMEM || (e.getErrorCode() & 0xff) == SQLITE_NOMEM) {
    return Error(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                 absl::StrCat(what, ": the machine or orchd's control group has no memory left"));
  }
  switch (e.getErrorCode() & 0xff) {
    case SQLITE_FULL:
      return Error(absl::StatusCode::kResourceExhausted, "DISK_FULL",
                   absl::StrCat(what, ": free space on the file system of the data directory"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Damaged(what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Error(absl::StatusCode::kUnavailable, "DATABASE_BUSY",
                   absl::StrCat(what, ": another program uses the database; try again"));
    case SQLITE_INTERRUPT:
      return Error(absl::StatusCode::kDeadlineExceeded, "QUERY_DEADLINE",
                   absl::StrCat(doing,
                                " took too long and was stopped: ask for less, by a narrower filter or a "
                                "smaller page"));
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return Error(absl::StatusCode::kFailedPrecondition, "DATABASE_NOT_WRITABLE",
                   absl::StrCat(what, ": check the owner and the mode of the data directory and its files"));
    case SQLITE_CONSTRAINT:
      return Error(absl::StatusCode::kInternal, "DATABASE_CONSTRAINT",
                   absl::StrCat(what, ": rows contradict each other; this is a defect of orchd"));
    default:
      return Error(absl::StatusCode::kInternal, "DATABASE_IO",
                   absl::StrCat(what, ": see the kernel's log for the disk"));
  }
}

}  // namespace orch::store
