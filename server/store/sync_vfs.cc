#include "server/store/sync_vfs.h"

#include <cerrno>
#include <new>

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
};

namespace {
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
  Tail* tail =
      new (reinterpret_cast<char*>(file) + TailOffset(owner->base_)) Tail{*file->pMethods, file->pMethods, owner};
  tail->methods.xSync = &SyncVfs::Sync;
  tail->methods.xWrite = &SyncVfs::Write;
  if (tail->base->iVersion >= 2) tail->methods.xShmMap = &SyncVfs::ShmMap;
  file->pMethods = &tail->methods;
  return SQLITE_OK;
}

int SyncVfs::Sync(sqlite3_file* file, int flags) {
  if (ORCH_PLANTED("skip_sync")) return SQLITE_OK;
  const auto* tail = reinterpret_cast<const Tail*>(file->pMethods);
  tail->owner->syncs_.fetch_add(1, std::memory_order_relaxed);
  return tail->base->xSync(file, flags);
}

// A quota that is used up.
int SyncVfs::Write(sqlite3_file* file, const void* bytes, int n, sqlite3_int64 at) {
  const auto* tail = reinterpret_cast<const Tail*>(file->pMethods);
  return tail->owner->NameFull(tail->base->xWrite(file, bytes, n, at));
}

// The index of the log grows with the log.
int SyncVfs::ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
  const auto* tail = reinterpret_cast<const Tail*>(file->pMethods);
  return tail->owner->NameFull(tail->base->xShmMap(file, region, size, extend, out));
}

int SyncVfs::NameFull(int rc) const {
  if (rc != SQLITE_IOERR_WRITE && rc != SQLITE_IOERR_SHMSIZE) return rc;
  const int error = base_->xGetLastError(base_, 0, nullptr);
  return error == ENOSPC || error == EDQUOT ? SQLITE_FULL : rc;
}

}  // namespace orch::store
