// A thin layer over SQLite's own VFS that counts syncs. The place where faults can be put between SQLite and the disk.
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace orch::store {

// A VFS under a name of its own, one per writer. Must outlive the connections opened through it.
class SyncVfs {
 public:
  SyncVfs();
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
  static Tail* TailOf(sqlite3_file* file);
  static int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags);
  static int Sync(sqlite3_file* file, int flags);

  std::string name_;
  Vfs vfs_;
  std::atomic<int64_t> syncs_{0};
};

}  // namespace orch::store
