#include "server/store/sync_vfs.h"

#include <new>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/planted.h"

namespace orch::store {
namespace {

sqlite3_vfs* Base() {
  static sqlite3_vfs* const base = sqlite3_vfs_find("unix");
  return base;
}

// Where our part of a file begins: behind the base VFS's, aligned.
size_t TailOffset() { return (static_cast<size_t>(Base()->szOsFile) + 15) & ~size_t{15}; }

}  // namespace

// Each file gets a copy of the base's table of methods with Sync replaced, so that everything else, shared memory too,
// goes straight to the base.
struct SyncVfs::Tail {
  sqlite3_io_methods methods;
  const sqlite3_io_methods* base;
  SyncVfs* owner;
};

SyncVfs::Tail* SyncVfs::TailOf(sqlite3_file* file) {
  return reinterpret_cast<Tail*>(reinterpret_cast<char*>(file) + TailOffset());
}

SyncVfs::SyncVfs() {
  static std::atomic<int> next{1};
  name_ = absl::StrCat("orch-", next.fetch_add(1));
  static_cast<sqlite3_vfs&>(vfs_) = *Base();
  vfs_.owner = this;
  vfs_.zName = name_.c_str();
  vfs_.szOsFile = static_cast<int>(TailOffset() + sizeof(Tail));
  vfs_.xOpen = &SyncVfs::Open;
  CHECK(sqlite3_vfs_register(&vfs_, 0) == SQLITE_OK);
}

SyncVfs::~SyncVfs() { sqlite3_vfs_unregister(&vfs_); }

int SyncVfs::Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  const int rc = Base()->xOpen(Base(), path, file, flags, out_flags);
  if (rc != SQLITE_OK || file->pMethods == nullptr) return rc;
  Tail* tail = new (TailOf(file)) Tail{*file->pMethods, file->pMethods, static_cast<Vfs*>(vfs)->owner};
  tail->methods.xSync = &SyncVfs::Sync;
  file->pMethods = &tail->methods;
  return SQLITE_OK;
}

int SyncVfs::Sync(sqlite3_file* file, int flags) {
  if (ORCH_PLANTED("skip_sync")) return SQLITE_OK;
  Tail* tail = TailOf(file);
  tail->owner->syncs_.fetch_add(1, std::memory_order_relaxed);
  return tail->base->xSync(file, flags);
}

}  // namespace orch::store
