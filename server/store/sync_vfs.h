// A thin layer over SQLite's own VFS: it counts syncs, and calls a full disk by that name where SQLite's own layer says
// only that a write failed.
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace orch::store {

// A VFS under a name of its own over the one named `base`, one per writer. Must outlive the connections opened through
// it.
class SyncVfs {
 public:
  explicit SyncVfs(const std::string& base);
  ~SyncVfs();
  SyncVfs(const SyncVfs&) = delete;
  SyncVfs& operator=(const SyncVfs&) = delete;

  const std::string& name() const { return name_; }
  int64_t syncs() const { return syncs_.load(std::memory_order_relaxed); }

 private:
  struct Tail;
  struct Vfs : sqlite3_vfs {
    SyncVfs* owner;
  };
  static int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags);
  static int Sync(sqlite3_file* file, int flags);
  static int Write(sqlite3_file* file, const void* bytes, int n, sqlite3_int64 at);
  static int ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out);
  int NameFull(int rc) const;

  sqlite3_vfs* const base_;
  std::string name_;
  Vfs vfs_;
  std::atomic<int64_t> syncs_{0};
};

}  // namespace orch::store
