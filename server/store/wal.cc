#include "server/store/wal.h"

#include <SQLiteCpp/Exception.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/store/pragmas.h"

namespace orch::store {
namespace {
constexpr int64_t kSoftBytes = 16 << 20;
constexpr int64_t kHardBytes = 64 << 20;
constexpr int64_t kRetryBytes = 4 << 20;  // after a checkpoint that a reader held back
constexpr int kFrameHeader = 24;
constexpr int kHardWaitMillis = 200;
}  // namespace

Wal::Wal(SQLite::Database* db, int64_t grow_bytes)
    : db_(db), path_(absl::StrCat(db->getFilename(), "-wal")), grow_bytes_(grow_bytes), next_at_(kSoftBytes) {
  page_bytes_ = db_->execAndGet("PRAGMA page_size").getInt64() + kFrameHeader;
  sqlite3_wal_hook(db_->getHandle(), &Wal::OnCommit, this);
  Grow();
}

Wal::~Wal() { sqlite3_wal_hook(db_->getHandle(), nullptr, nullptr); }

int Wal::OnCommit(void* self, sqlite3*, const char*, int pages) {
  auto* wal = static_cast<Wal*>(self);
  wal->bytes_ = pages * wal->page_bytes_;
  return SQLITE_OK;
}

// Zeros behind the log's end are no frames to SQLite: their salts do not match. SQLite takes no POSIX locks on this
// file, so closing a descriptor of it here loses none.
void Wal::Grow() {
  const int fd = open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  struct stat st;
  const std::string zeros(256 << 10, '\0');
  if (fstat(fd, &st) == 0) {
    const int64_t before = st.st_size;
    for (int64_t at = before; at < grow_bytes_;) {
      const auto n = static_cast<size_t>(std::min<int64_t>(grow_bytes_ - at, static_cast<int64_t>(zeros.size())));
      const ssize_t written = pwrite(fd, zeros.data(), n, at);
      if (written <= 0) {
        (void)ftruncate(fd, before);  // a full disk: it grows later, slower
        break;
      }
      at += written;
    }
    (void)fdatasync(fd);  // only so that the first commit does not wait for it; nothing depends on these bytes
  }
  close(fd);
}

void Wal::MaybeCheckpoint() {
  if (bytes_ < next_at_) return;
  const bool hard = bytes_ >= kHardBytes;
  ORCH_FAULT("checkpoint.before");
  int pages = 0;
  int done = 0;
  if (hard) sqlite3_busy_timeout(db_->getHandle(), kHardWaitMillis);
  const int rc = sqlite3_wal_checkpoint_v2(
      db_->getHandle(), "main", hard ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
  if (hard) sqlite3_busy_timeout(db_->getHandle(), kWriterBusyMillis);
  ORCH_FAULT("checkpoint.after");
  next_at_ = bytes_ + kRetryBytes;
  if (rc != SQLITE_OK && rc != SQLITE_BUSY) throw SQLite::Exception(db_->getHandle(), rc);
  if (rc == SQLITE_OK && done == pages) {
    bytes_ = 0;
    next_at_ = kSoftBytes;
    if (hard) Grow();
    return;
  }
  if (hard) Log(LogLevel::kWarning, "a reader keeps the database's log from being emptied", {{"wal_bytes", bytes_}});
}

}  // namespace orch::store
