#include "tests/store/fault_vfs.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"

namespace orch::store {
namespace {
constexpr size_t kSector = 512;
using Random = std::mt19937_64;

void Put(std::string* to, size_t at, const char* bytes, size_t n) {
  if (to->size() < at + n) to->resize(at + n, '\0');
  std::memcpy(to->data() + at, bytes, n);
}

}  // namespace

const char* NameOf(Call call) {
  static constexpr const char* kNames[kCalls] = {"open", "read",   "write",  "truncate", "sync",
                                                 "size", "access", "delete", "shm_map",  "shm_lock"};
  return kNames[static_cast<size_t>(call)];
}

struct FaultVfs::Node {
  std::string path;
  std::string bytes;
  int shared = 0;  // holders of SHARED or more
  int level = SQLITE_LOCK_NONE;
  sqlite3_file* writer = nullptr;  // holder of RESERVED or more
  std::vector<std::unique_ptr<char[]>> shm;
  std::array<int, SQLITE_SHM_NLOCK> shm_shared{};
  std::array<bool, SQLITE_SHM_NLOCK> shm_exclusive{};
  int shm_users = 0;
};

struct FaultVfs::File : sqlite3_file {
  FaultVfs* owner;
  std::shared_ptr<Node> node;
  int lock;
  bool delete_on_close;
  bool shm_open;
  std::array<bool, SQLITE_SHM_NLOCK> shm_shared;
  std::array<bool, SQLITE_SHM_NLOCK> shm_exclusive;
};

struct FaultVfs::Op {
  enum class Kind : uint8_t { kCreate, kUnlink, kWrite, kTruncate, kSync, kSyncFailed, kSyncFolder };
  Kind kind;
  std::string path;
  int64_t at = 0;  // offset or size; of kSyncFailed the seed of what it wrote after all
  std::string bytes;
};

// One table of functions for all; sqlite3_file finds its file, sqlite3_vfs its owner.
struct FaultVfs::Methods {
  static File* Of(sqlite3_file* file) { return static_cast<File*>(file); }
  static FaultVfs* Of(sqlite3_vfs* vfs) { return static_cast<FaultVfs*>(vfs->pAppData); }

  static int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
    FaultVfs* self = Of(vfs);
    file->pMethods = nullptr;
    if (self->Enter(Call::kOpen) != 0) return SQLITE_CANTOPEN;
    const std::string name = path == nullptr ? absl::StrCat("temporary-", self->ops_.size()) : path;
    auto& node = self->files_[name];
    if (node == nullptr) {
      if ((flags & SQLITE_OPEN_CREATE) == 0) {
        self->files_.erase(name);
        self->last_error_ = ENOENT;
        return SQLITE_CANTOPEN;
      }
      node = std::make_shared<Node>();
      node->path = name;
      self->ops_.push_back({Op::Kind::kCreate, name, 0, ""});
    }
    auto* f = new (file) File();
    f->pMethods = Table();
    f->owner = self;
    f->node = node;
    f->lock = SQLITE_LOCK_NONE;
    f->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    if (out_flags != nullptr) *out_flags = flags;
    return SQLITE_OK;
  }
  static int Delete(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    FaultVfs* self = Of(vfs);
    if (self->Enter(Call::kDelete) != 0) return SQLITE_IOERR_DELETE;
    if (self->files_.erase(path) == 0) return SQLITE_IOERR_DELETE_NOENT;
    self->ops_.push_back({Op::Kind::kUnlink, path, 0, ""});
    if (sync_folder != 0) self->ops_.push_back({Op::Kind::kSyncFolder, "", 0, ""});
    return SQLITE_OK;
  }
  static int Access(sqlite3_vfs* vfs, const char* path, int flags, int* out) {
    FaultVfs* self = Of(vfs);
    if (self->Enter(Call::kAccess) != 0) return SQLITE_IOERR_ACCESS;
    const auto found = self->files_.find(path);
    *out = found != self->files_.end() && (flags != SQLITE_ACCESS_EXISTS || !found->second->bytes.empty());
    return SQLITE_OK;
  }
  static int FullPathname(sqlite3_vfs*, const char* path, int n, char* out) {
    sqlite3_snprintf(n, out, "%s", path);
    return SQLITE_OK;
  }
  static int GetLastError(sqlite3_vfs* vfs, int, char*) { return Of(vfs)->last_error_; }

  static int Close(sqlite3_file* file) {
    File* f = Of(file);
    Unlock(file, SQLITE_LOCK_NONE);
    ShmUnmap(file, 0);
    if (f->delete_on_close) f->owner->files_.erase(f->node->path);
    f->~File();
    return SQLITE_OK;
  }
  static int Read(sqlite3_file* file, void* out, int n, sqlite3_int64 at) {
    File* f = Of(file);
    if (f->owner->Enter(Call::kRead) != 0) return SQLITE_IOERR_READ;
    const std::string& bytes = f->node->bytes;
    const auto from = static_cast<size_t>(at);
    const auto wanted = static_cast<size_t>(n);
    std::memset(out, 0, wanted);
    const size_t got = from < bytes.size() ? bytes.copy(static_cast<char*>(out), wanted, from) : 0;
    return got == wanted ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
  }
  static int Write(sqlite3_file* file, const void* in, int n, sqlite3_int64 at) {
    File* f = Of(file);
    const int error = f->owner->Enter(Call::kWrite);
    if (error == ENOSPC) return SQLITE_FULL;
    if (error != 0) return SQLITE_IOERR_WRITE;
    const int64_t grows = std::max<int64_t>(0, at + n - static_cast<int64_t>(f->node->bytes.size()));
    if (grows > 0 && f->owner->capacity_ >= 0 && f->owner->bytes() + grows > f->owner->capacity_) {
      f->owner->last_error_ = ENOSPC;
      return SQLITE_FULL;
    }
    Put(&f->node->bytes, static_cast<size_t>(at), static_cast<const char*>(in), static_cast<size_t>(n));
    f->owner->ops_.push_back(
        {Op::Kind::kWrite, f->node->path, at, std::string(static_cast<const char*>(in), static_cast<size_t>(n))});
    return SQLITE_OK;
  }
  static int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    File* f = Of(file);
    if (f->owner->Enter(Call::kTruncate) != 0) return SQLITE_IOERR_TRUNCATE;
    f->node->bytes.resize(static_cast<size_t>(size));
    f->owner->ops_.push_back({Op::Kind::kTruncate, f->node->path, size, ""});
    return SQLITE_OK;
  }
  static int Sync(sqlite3_file* file, int) {
    File* f = Of(file);
    if (f->owner->Enter(Call::kSync) != 0) {
      f->owner->ops_.push_back(
          {Op::Kind::kSyncFailed, f->node->path, static_cast<int64_t>(f->owner->random_() >> 1), ""});
      return SQLITE_IOERR_FSYNC;
    }
    f->owner->ops_.push_back({Op::Kind::kSync, f->node->path, 0, ""});
    // SQLite's own VFS syncs the folder with the first sync of a log or journal that it made.
    if (!absl::EndsWith(f->node->path, ".db")) f->owner->ops_.push_back({Op::Kind::kSyncFolder, "", 0, ""});
    return SQLITE_OK;
  }
  static int FileSize(sqlite3_file* file, sqlite3_int64* out) {
    File* f = Of(file);
    if (f->owner->Enter(Call::kSize) != 0) return SQLITE_IOERR_FSTAT;
    *out = static_cast<sqlite3_int64>(f->node->bytes.size());
    return SQLITE_OK;
  }
  static int Lock(sqlite3_file* file, int level) {
    File* f = Of(file);
    Node& node = *f->node;
    if (f->lock >= level) return SQLITE_OK;
    if (level == SQLITE_LOCK_SHARED) {
      if (node.level >= SQLITE_LOCK_PENDING) return SQLITE_BUSY;
      ++node.shared;
    } else {
      if (node.writer != nullptr && node.writer != file) return SQLITE_BUSY;
      if (level == SQLITE_LOCK_EXCLUSIVE && node.shared > 1) return SQLITE_BUSY;
      node.writer = file;
      node.level = level;
    }
    f->lock = level;
    return SQLITE_OK;
  }
  static int Unlock(sqlite3_file* file, int level) {
    File* f = Of(file);
    Node& node = *f->node;
    if (f->lock <= level) return SQLITE_OK;
    if (node.writer == file) {
      node.writer = nullptr;
      node.level = SQLITE_LOCK_NONE;
    }
    if (level == SQLITE_LOCK_NONE) --node.shared;
    f->lock = level;
    return SQLITE_OK;
  }
  static int CheckReservedLock(sqlite3_file* file, int* out) {
    *out = Of(file)->node->writer != nullptr;
    return SQLITE_OK;
  }
  static int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
  static int SectorSize(sqlite3_file*) { return static_cast<int>(kSector); }
  // As SQLite's own VFS on Linux: a write does not harm what lies beside it.
  static int DeviceCharacteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

  static int ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
    File* f = Of(file);
    *out = nullptr;
    const int error = f->owner->Enter(Call::kShmMap);
    if (error != 0) return error == ENOSPC ? SQLITE_IOERR_SHMSIZE : SQLITE_IOERR_SHMMAP;
    Node& node = *f->node;
    if (!f->shm_open) {
      if (node.shm_users++ == 0) node.shm.clear();  // the first one recovers the log
      f->shm_open = true;
    }
    while (node.shm.size() <= static_cast<size_t>(region)) {
      if (extend == 0) return SQLITE_OK;
      node.shm.push_back(std::make_unique<char[]>(static_cast<size_t>(size)));
    }
    *out = node.shm[static_cast<size_t>(region)].get();
    return SQLITE_OK;
  }
  static int ShmLock(sqlite3_file* file, int first, int n, int flags) {
    File* f = Of(file);
    if ((flags & SQLITE_SHM_LOCK) != 0 && f->owner->Enter(Call::kShmLock) != 0) return SQLITE_IOERR_SHMLOCK;
    Node& node = *f->node;
    const bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(first + n); ++i) {
      if ((flags & SQLITE_SHM_UNLOCK) != 0) {
        Release(f, i);
        continue;
      }
      const bool others_share = node.shm_shared[i] > (f->shm_shared[i] ? 1 : 0);
      const bool others_exclude = node.shm_exclusive[i] && !f->shm_exclusive[i];
      if (others_exclude || (exclusive && others_share)) {
        for (size_t j = static_cast<size_t>(first); exclusive && j < i; ++j) Release(f, j);
        return SQLITE_BUSY;
      }
      if (exclusive) {
        node.shm_exclusive[i] = f->shm_exclusive[i] = true;
      } else if (!f->shm_shared[i]) {
        ++node.shm_shared[i];
        f->shm_shared[i] = true;
      }
    }
    return SQLITE_OK;
  }
  static void Release(File* f, size_t i) {
    if (f->shm_exclusive[i]) f->node->shm_exclusive[i] = false;
    if (f->shm_shared[i]) --f->node->shm_shared[i];
    f->shm_exclusive[i] = f->shm_shared[i] = false;
  }
  static void ShmBarrier(sqlite3_file*) {}
  static int ShmUnmap(sqlite3_file* file, int) {
    File* f = Of(file);
    if (!f->shm_open) return SQLITE_OK;
    for (size_t i = 0; i < SQLITE_SHM_NLOCK; ++i) Release(f, i);
    f->shm_open = false;
    --f->node->shm_users;
    return SQLITE_OK;
  }

  static const sqlite3_io_methods* Table() {
    static const sqlite3_io_methods table = {2,
                                             &Close,
                                             &Read,
                                             &Write,
                                             &Truncate,
                                             &Sync,
                                             &FileSize,
                                             &Lock,
                                             &Unlock,
                                             &CheckReservedLock,
                                             &FileControl,
                                             &SectorSize,
                                             &DeviceCharacteristics,
                                             &ShmMap,
                                             &ShmLock,
                                             &ShmBarrier,
                                             &ShmUnmap,
                                             nullptr,
                                             nullptr};
    return &table;
  }
};

FaultVfs::FaultVfs(uint64_t seed) : random_(seed) {
  static std::atomic<int> next{1};
  name_ = absl::StrCat("fault-", next.fetch_add(1));
  static_cast<sqlite3_vfs&>(vfs_) = *sqlite3_vfs_find("unix");  // for time, randomness and the like
  vfs_.owner = this;
  vfs_.pAppData = this;
  vfs_.zName = name_.c_str();
  vfs_.szOsFile = static_cast<int>(sizeof(File));
  vfs_.xOpen = &Methods::Open;
  vfs_.xDelete = &Methods::Delete;
  vfs_.xAccess = &Methods::Access;
  vfs_.xFullPathname = &Methods::FullPathname;
  vfs_.xGetLastError = &Methods::GetLastError;
  CHECK(sqlite3_vfs_register(&vfs_, 0) == SQLITE_OK);
}

FaultVfs::~FaultVfs() { sqlite3_vfs_unregister(&vfs_); }

int FaultVfs::Enter(Call call) {
  if (stall_) stall_(call);
  ++calls_[static_cast<size_t>(call)];
  if (fault_ == nullptr || fault_->call != call) return 0;
  if (fault_->at-- > 0) return 0;
  failed_ = true;
  last_error_ = fault_->error;
  const int error = fault_->error;
  if (fault_->sticky) {
    fault_->at = 0;
  } else {
    fault_.reset();
  }
  return error;
}

void FaultVfs::FailAt(Call call, int64_t at, int error, bool sticky) {
  failed_ = false;
  fails_ = call;
  fault_ = std::make_unique<Fault>(Fault{call, at, error, sticky});
}

size_t FaultVfs::ops() const { return ops_.size(); }

int64_t FaultVfs::bytes() const {
  int64_t out = 0;
  for (const auto& [path, node] : files_) out += static_cast<int64_t>(node->bytes.size());
  return out;
}

DiskImage FaultVfs::Live() const {
  DiskImage out;
  for (const auto& [path, node] : files_) out[path] = node->bytes;
  return out;
}

void FaultVfs::Load(DiskImage image) {
  files_.clear();
  for (const auto& [path, bytes] : image) {
    files_[path] = std::make_shared<Node>();
    files_[path]->path = path;
    files_[path]->bytes = bytes;
  }
  base_ = std::move(image);
  ops_.clear();
}

DiskImage FaultVfs::Cut(size_t op, Random* random) const {
  struct State {
    std::string durable;
    std::vector<const Op*> pending;
    bool named = false;  // its name is durable
    bool exists = true;
  };
  std::map<std::string, State> states;
  for (const auto& [path, bytes] : base_) states[path] = {bytes, {}, true, true};

  // How much of what is pending survives, in 256ths of its sectors, and whether in order.
  const auto keep_some = [](State* state, Random* r) {
    static constexpr uint64_t kShares[] = {0, 8, 128, 248, 256};
    const uint64_t share = kShares[(*r)() % std::size(kShares)];
    const bool in_order = (*r)() % 3 == 0;
    const bool garbage = (*r)() % 4 == 0;
    size_t left = in_order && !state->pending.empty() ? (*r)() % (state->pending.size() + 1) : state->pending.size();
    for (const Op* o : state->pending) {
      const bool last = in_order && left == 0;
      if (o->kind == Op::Kind::kTruncate) {
        if (in_order ? !last : (*r)() % 256 < share) state->durable.resize(static_cast<size_t>(o->at));
        if (last) return;
        if (in_order) --left;
        continue;
      }
      const auto at = static_cast<size_t>(o->at);
      for (size_t i = 0; i < o->bytes.size();) {
        const size_t n = std::min(kSector - (at + i) % kSector, o->bytes.size() - i);
        const bool keep = in_order ? !last || (*r)() % 2 == 0 : (*r)() % 256 < share;
        if (keep) {
          const size_t before = state->durable.size();
          Put(&state->durable, at + i, o->bytes.data() + i, n);
          for (size_t j = before; garbage && j < at + i; ++j) state->durable[j] = static_cast<char>((*r)());
        }
        i += n;
      }
      if (last) return;
      if (in_order) --left;
    }
  };

  for (size_t i = 0; i < op && i < ops_.size(); ++i) {
    const Op& o = ops_[i];
    State& state = states[o.path];
    switch (o.kind) {
      case Op::Kind::kCreate:
        state.exists = true;
        state.durable.clear();
        state.pending.clear();
        break;
      case Op::Kind::kUnlink:
        state.exists = false;
        break;
      case Op::Kind::kWrite:
      case Op::Kind::kTruncate:
        state.pending.push_back(&o);
        break;
      case Op::Kind::kSync:
        for (const Op* p : state.pending) {
          if (p->kind == Op::Kind::kTruncate) {
            state.durable.resize(static_cast<size_t>(p->at));
          } else {
            Put(&state.durable, static_cast<size_t>(p->at), p->bytes.data(), p->bytes.size());
          }
        }
        state.pending.clear();
        break;
      case Op::Kind::kSyncFailed: {
        Random of_this(static_cast<uint64_t>(o.at));
        keep_some(&state, &of_this);
        state.pending.clear();
        break;
      }
      case Op::Kind::kSyncFolder:
        for (auto& [path, s] : states) s.named = s.exists;
        break;
    }
  }
  DiskImage out;
  for (auto& [path, state] : states) {
    if (path.empty()) continue;
    if (state.named != state.exists && (*random)() % 2 == 0) state.exists = state.named;
    if (!state.exists) continue;
    keep_some(&state, random);
    out[path] = std::move(state.durable);
  }
  return out;
}

}  // namespace orch::store
