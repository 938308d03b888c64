// A thin layer over SQLite's own VFS: it counts syncs, gathers what goes to the log into few writes, and calls a full
// disk by that name where SQLite's own layer says only that a write failed.
//
// SQLite writes each page of a commit to its log by two calls, one behind the other. Here they are gathered and go to
// the file at its sync, or before anything that could miss them: a read of that place, a question for the size, the
// moment when other connections learn of the commit. With synchronous=FULL that moment comes after the sync, so that an
// error of the write is the commit's.
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
  static int Close(sqlite3_file* file);
  static int Read(sqlite3_file* file, void* bytes, int n, sqlite3_int64 at);
  static int Write(sqlite3_file* file, const void* bytes, int n, sqlite3_int64 at);
  static int Truncate(sqlite3_file* file, sqlite3_int64 size);
  static int Sync(sqlite3_file* file, int flags);
  static int FileSize(sqlite3_file* file, sqlite3_int64* size);
  static int ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out);
  static void ShmBarrier(sqlite3_file* file);
  static Tail* TailOf(sqlite3_file* file);
  // Writes what was gathered; it is gone whatever comes of that.
  static int Flush(sqlite3_file* file);
  int NameFull(int rc) const;

  sqlite3_vfs* const base_;
  std::string name_;
  Vfs vfs_;
  std::atomic<int64_t> syncs_{0};
  sqlite3_file* log_ = nullptr;  // the writer's, while it is open
};

}  // namespace orch::store
