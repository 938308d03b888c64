// A double of a disk: an SQLite VFS that keeps files in memory, knows what was synced and what was only written, loses
// power, fails calls, fills up and stalls.
//
// What a power cut leaves: everything synced; of each write since the last sync of its file any subset of its 512-byte
// sectors, in any order; where a file grew, zeros or garbage instead of what was not written; names made or removed
// since the last sync of the folder, or not. A sync that fails drops what it should have written, as Linux does: a
// later sync that succeeds does not bring it back, while reads still show it.
#pragma once

#include <sqlite3.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace orch::store {

enum class Call : uint8_t { kOpen, kRead, kWrite, kTruncate, kSync, kSize, kAccess, kDelete, kShmMap, kShmLock };
inline constexpr int kCalls = 10;
const char* NameOf(Call call);

// The files that are left after a cut, by path.
using DiskImage = std::map<std::string, std::string>;

// Thread: one at a time.
class FaultVfs {
 public:
  explicit FaultVfs(uint64_t seed);
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;

  const std::string& name() const { return name_; }

  // The `at`-th call of this kind from now on (from 0), and with `sticky` all after it, fails with this errno.
  void FailAt(Call call, int64_t at, int error, bool sticky = false);
  void FailNothing() { fault_.reset(); }
  bool failed() const { return failed_; }  // since FailAt
  Call fails() const { return fails_; }    // of FailAt
  int64_t calls(Call call) const { return calls_[static_cast<size_t>(call)]; }

  // Writes that would make all files together larger than this find no space. -1: no bound.
  void set_capacity(int64_t bytes) { capacity_ = bytes; }
  int64_t bytes() const;

  // Called before each call is carried out: a slow disk.
  void set_stall(std::function<void(Call)> stall) { stall_ = std::move(stall); }

  // Everything that changes files is an op, numbered from 0.
  size_t ops() const;
  // What a cut right before op `op` may leave.
  DiskImage Cut(size_t op, std::mt19937_64* random) const;
  // Starts again with these files, durable. No file may be open.
  void Load(DiskImage image);
  // The files as a process that was killed leaves them.
  DiskImage Live() const;

 private:
  struct Node;
  struct File;
  struct Op;
  struct Fault {
    Call call;
    int64_t at;
    int error;
    bool sticky;
  };
  struct Vfs : sqlite3_vfs {
    FaultVfs* owner;
  };
  struct Methods;

  // 0, or the errno with which this call fails.
  int Enter(Call call);
  Node& NodeOf(sqlite3_file* file);

  std::string name_;
  Vfs vfs_;
  std::mt19937_64 random_;
  std::map<std::string, std::shared_ptr<Node>> files_;
  DiskImage base_;  // before ops_
  std::vector<Op> ops_;
  std::array<int64_t, kCalls> calls_{};
  std::unique_ptr<Fault> fault_;
  bool failed_ = false;
  Call fails_ = Call::kOpen;
  int last_error_ = 0;
  int64_t capacity_ = -1;
  std::function<void(Call)> stall_;
};

}  // namespace orch::store
