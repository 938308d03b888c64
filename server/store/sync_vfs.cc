#include "server/store/sync_vfs.h"

#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"

namespace orch::store {

// Each file gets a copy of the base's table of methods with ours in place, so that everything else goes straight to the
// base. It lies behind the base's part of the file, and the file's table is its first member.
struct SyncVfs::Tail {
  sqlite3_io_methods methods;
  const sqlite3_io_methods* base;
  SyncVfs* owner;
  std::string gathered;        // of the log: what is not written yet
  sqlite3_int64 gathered_at;   // where it begins in the file
  int late_error = SQLITE_OK;  // of a write that nobody could be told of
};

namespace {
constexpr size_t kGather = 96 << 10;  // SQLite's own layer takes less than 128 KiB at once

size_t TailOffset(const sqlite3_vfs* base) { return (static_cast<size_t>(base->szOsFile) + 15) & ~size_t{15}; }
}  // namespace

SyncVfs::SyncVfs(const std::string& base) : base_(sqlite3_vfs_find(base.c_str())) {
  CHECK(base_ != nullptr);
  static std::atomic<int> next{1};
  name_ = absl::StrCat("orch-", next.fetch_add(1));
  static_cast<sqlite3_vfs&>(vfs_) = *base_;
  vfs_.owner = this;
  vfs_.zName = name_.c_str();
  vfs_.szOsFile = static_cast<int>(TailOffset(base_) + sizeof(Tail));
  vfs_.xOpen = &SyncVfs::Open;
  CHECK(sqlite3_vfs_register(&vfs_, 0) == SQLITE_OK);
}

SyncVfs::~SyncVfs() { sqlite3_vfs_unregister(&vfs_); }

int SyncVfs::Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  SyncVfs* owner = static_cast<Vfs*>(vfs)->owner;
  const int rc = owner->base_->xOpen(owner->base_, path, file, flags, out_flags);
  if (rc != SQLITE_OK || file->pMethods == nullptr) return rc;
  Tail* tail = new (reinterpret_cast<char*>(file) + TailOffset(owner->base_))
      Tail{*file->pMethods, file->pMethods, owner, std::string(), 0};
  tail->methods.xClose = &SyncVfs::Close;
  tail->methods.xWrite = &SyncVfs::Write;
  tail->methods.xSync = &SyncVfs::Sync;
  if ((flags & SQLITE_OPEN_WAL) != 0) {
    tail->methods.xRead = &SyncVfs::Read;
    tail->methods.xTruncate = &SyncVfs::Truncate;
    tail->methods.xFileSize = &SyncVfs::FileSize;
    tail->gathered.reserve(kGather);
    owner->log_ = file;
  }
  if (tail->base->iVersion >= 2) {
    tail->methods.xShmMap = &SyncVfs::ShmMap;
    tail->methods.xShmBarrier = &SyncVfs::ShmBarrier;
  }
  file->pMethods = &tail->methods;
  return SQLITE_OK;
}

SyncVfs::Tail* SyncVfs::TailOf(sqlite3_file* file) {
  return reinterpret_cast<Tail*>(const_cast<sqlite3_io_methods*>(file->pMethods));
}

int SyncVfs::Close(sqlite3_file* file) {
  Tail* const tail = TailOf(file);
  if (tail->owner->log_ == file) {
    (void)Flush(file);  // no commit: those were synced
    tail->owner->log_ = nullptr;
  }
  const sqlite3_io_methods* const base = tail->base;
  tail->~Tail();
  return base->xClose(file);
}

int SyncVfs::Flush(sqlite3_file* file) {
  Tail* const tail = TailOf(file);
  if (tail->late_error != SQLITE_OK) return std::exchange(tail->late_error, SQLITE_OK);
  if (tail->gathered.empty()) return SQLITE_OK;
  const int rc =
      tail->base->xWrite(file, tail->gathered.data(), static_cast<int>(tail->gathered.size()), tail->gathered_at);
  tail->gathered.clear();
  return tail->owner->NameFull(rc);
}

int SyncVfs::Read(sqlite3_file* file, void* bytes, int n, sqlite3_int64 at) {
  const Tail* const tail = TailOf(file);
  const auto end = tail->gathered_at + static_cast<sqlite3_int64>(tail->gathered.size());
  if (at < end && at + n > tail->gathered_at) {
    const int rc = Flush(file);
    if (rc != SQLITE_OK) return rc;
  }
  return tail->base->xRead(file, bytes, n, at);
}

int SyncVfs::Write(sqlite3_file* file, const void* bytes, int n, sqlite3_int64 at) {
  Tail* const tail = TailOf(file);
  const auto size = static_cast<size_t>(n);
  if (tail->owner->log_ != file) return tail->owner->NameFull(tail->base->xWrite(file, bytes, n, at));  // a quota
  if (at != tail->gathered_at + static_cast<sqlite3_int64>(tail->gathered.size()) ||
      tail->gathered.size() + size > kGather) {
    const int rc = Flush(file);
    if (rc != SQLITE_OK) return rc;
  }
  if (size > kGather) return tail->owner->NameFull(tail->base->xWrite(file, bytes, n, at));
  if (tail->gathered.empty()) tail->gathered_at = at;
  tail->gathered.append(static_cast<const char*>(bytes), size);
  return SQLITE_OK;
}

int SyncVfs::Truncate(sqlite3_file* file, sqlite3_int64 size) {
  const int rc = Flush(file);
  return rc == SQLITE_OK ? TailOf(file)->base->xTruncate(file, size) : rc;
}

int SyncVfs::FileSize(sqlite3_file* file, sqlite3_int64* size) {
  const int rc = Flush(file);
  return rc == SQLITE_OK ? TailOf(file)->base->xFileSize(file, size) : rc;
}

int SyncVfs::Sync(sqlite3_file* file, int flags) {
  Tail* const tail = TailOf(file);
  const int rc = Flush(file);
  if (rc != SQLITE_OK || ORCH_PLANTED("skip_sync")) return rc;
  tail->owner->syncs_.fetch_add(1, std::memory_order_relaxed);
  return tail->base->xSync(file, flags);
}

// The index of the log grows with the log.
int SyncVfs::ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
  const Tail* const tail = TailOf(file);
  return tail->owner->NameFull(tail->base->xShmMap(file, region, size, extend, out));
}

// After it other connections may read what was committed. It has no way to fail: the log's next call does.
void SyncVfs::ShmBarrier(sqlite3_file* file) {
  const Tail* const tail = TailOf(file);
  if (sqlite3_file* const log = tail->owner->log_; log != nullptr) {
    const int rc = Flush(log);
    if (rc != SQLITE_OK) TailOf(log)->late_error = rc;
  }
  tail->base->xShmBarrier(file);
}

int SyncVfs::NameFull(int rc) const {
  if (rc != SQLITE_IOERR_WRITE && rc != SQLITE_IOERR_SHMSIZE) return rc;
  const int error = base_->xGetLastError(base_, 0, nullptr);
  return error == ENOSPC || error == EDQUOT ? SQLITE_FULL : rc;
}

}  // namespace orch::store
