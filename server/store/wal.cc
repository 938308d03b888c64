#include "server/store/wal.h"

#include <SQLiteCpp/Exception.h>
#include <sqlite3.h>

#include <algorithm>
#include <string>

#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/store/pragmas.h"

namespace orch::store {
namespace {
constexpr int kFrameHeader = 24;
constexpr int kHardWaitMillis = 200;
constexpr int64_t kSharedBy = 128;  // commits: a write-back of a few milliseconds is then little for each
}  // namespace

Wal::Wal(SQLite::Database* db, int64_t grow_bytes, int64_t soft_bytes)
    : db_(db), grow_bytes_(grow_bytes), soft_bytes_(soft_bytes), next_at_(soft_bytes) {
  page_bytes_ = db_->execAndGet("PRAGMA page_size").getInt64() + kFrameHeader;
  sqlite3_wal_hook(db_->getHandle(), &Wal::OnCommit, this);
  Grow();
}

Wal::~Wal() { sqlite3_wal_hook(db_->getHandle(), nullptr, nullptr); }

int Wal::OnCommit(void* self, sqlite3*, const char*, int pages) {
  auto* wal = static_cast<Wal*>(self);
  wal->bytes_ = pages * wal->page_bytes_;
  ++wal->commits_;
  try {  // each time: a log that started again may be longer than it was
    sqlite3_file* const file = LogFile(wal->db_->getHandle());
    wal->end_.salts = file == nullptr ? 0 : SaltsOf(file);
  } catch (const SQLite::Exception&) {
    wal->end_.salts = 0;  // the commit is durable all the same
  }
  wal->end_.frames = pages;
  return SQLITE_OK;
}

// Zeros behind the log's end are no frames to SQLite: their salts do not match. Through SQLite's own file, so that an
// error of a sync is seen by who has to know of it: the file may hold frames of a process that was killed.
void Wal::Grow() {
  sqlite3_file* const file = LogFile(db_->getHandle());
  sqlite3_int64 size = 0;
  if (file == nullptr) return;
  int rc = file->pMethods->xFileSize(file, &size);
  if (rc != SQLITE_OK) throw SQLite::Exception("the log's size cannot be read", rc);
  if (size >= grow_bytes_) return;
  const std::string zeros(64 << 10, '\0');  // SQLite's own layer takes less than 128 KiB at once
  for (int64_t at = size; at < grow_bytes_ && rc == SQLITE_OK;) {
    const auto n = std::min<int64_t>(grow_bytes_ - at, static_cast<int64_t>(zeros.size()));
    rc = file->pMethods->xWrite(file, zeros.data(), static_cast<int>(n), at);
    at += n;
  }
  if ((rc & 0xff) == SQLITE_FULL) {
    (void)file->pMethods->xTruncate(file, size);  // it grows later, slower
    return;
  }
  // So that the first commit does not wait for it.
  if (rc == SQLITE_OK) rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
  if (rc != SQLITE_OK) throw SQLite::Exception("the log cannot be grown", rc);
}

// Zeros over frames of a log whose cut is not durable yet would, after a power cut, leave its beginning without its
// end: old pages that hide what the database has.
void Wal::SyncCut() {
  sqlite3_file* const file = LogFile(db_->getHandle());
  if (file == nullptr) return;
  const int rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
  if (rc != SQLITE_OK) throw SQLite::Exception("the log cannot be cut", rc);
}

void Wal::MaybeCheckpoint(bool idle) {
  if (bytes_ < next_at_) return;
  if (!idle && commits_ < kSharedBy && bytes_ < next_at_ + 7 * soft_bytes_) return;
  const bool hard = idle && WillCut();
  ORCH_FAULT("checkpoint.before");
  int pages = 0;
  int done = 0;
  if (hard) sqlite3_busy_timeout(db_->getHandle(), kHardWaitMillis);
  const int rc = sqlite3_wal_checkpoint_v2(
      db_->getHandle(), "main", hard ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
  if (hard) sqlite3_busy_timeout(db_->getHandle(), kWriterBusyMillis);
  ORCH_FAULT("checkpoint.after");
  next_at_ = bytes_ + soft_bytes_ / 4;  // if a reader holds it back
  if (rc != SQLITE_OK && rc != SQLITE_BUSY) throw SQLite::Exception(db_->getHandle(), rc);
  if (rc == SQLITE_OK && done == pages) {
    bytes_ = 0;
    commits_ = 0;
    next_at_ = soft_bytes_;
    if (hard) {
      SyncCut();
      Grow();
    }
    return;
  }
  if (hard) Log(LogLevel::kWarning, "a reader keeps the database's log from being emptied", {{"wal_bytes", bytes_}});
}

}  // namespace orch::store
