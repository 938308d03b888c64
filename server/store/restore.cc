#include "server/store/restore.h"

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/store/backup_files.h"
#include "server/store/high_water.h"
#include "server/store/lock.h"
#include "server/store/migrate.h"
#include "server/store/migrations.h"
#include "server/store/pragmas.h"
#include "server/store/recovery.h"
#include "server/store/sqlite_status.h"

namespace orch::store {
namespace {

namespace fs = std::filesystem;

// More events than a mark can be behind: one that was lost, or not synced before a power cut.
constexpr int64_t kUnknownEvents = 1'000'000'000;

constexpr char kCopied[] = ".restored";  // behind the name of what is being made
constexpr char kReady[] = ".ready";      // of a database that is made: all that is left is to put it in its place

std::string ReadyPath(const std::string& data_dir) { return absl::StrCat(DatabasePath(data_dir), kReady); }
std::string CopyPath(const std::string& data_dir, absl::string_view name) {
  return absl::StrCat(data_dir, "/", name, kCopied);
}

bool IsThere(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

// What a backup holds.
struct Parts {
  std::string database;
  Sums sums;  // empty: a database alone
};

absl::StatusOr<Parts> FindParts(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) {
    return Error(absl::StatusCode::kNotFound, "BACKUP_MISSING", absl::StrCat("there is no ", path));
  }
  Parts out;
  if (!S_ISDIR(st.st_mode)) {
    out.database = path;
    struct stat log;
    if (stat(absl::StrCat(path, "-wal").c_str(), &log) == 0 && log.st_size > 0) {
      return Error(absl::StatusCode::kFailedPrecondition, "BACKUP_HAS_LOG",
                   absl::StrCat(path, " has a log beside it, ", path, "-wal, with what it lacks: `orchd --salvage ",
                                path, "` reads both"));
    }
    return out;
  }
  out.database = absl::StrCat(path, "/", kBackupDatabase);
  if (!IsThere(absl::StrCat(path, "/", kBackupSums))) {
    return Error(absl::StatusCode::kNotFound, "BACKUP_MISSING",
                 absl::StrCat(path, " is no backup, it has no ", kBackupSums,
                              "; a database alone is named by its file: `orchd --salvage ", out.database, "`"));
  }
  ASSIGN_OR_RETURN(out.sums, ReadSums(path));
  if (out.sums.count(kBackupDatabase) == 0) return BackupDamaged(path, absl::StrCat("has no ", kBackupDatabase));
  return out;
}

// Makes `to` of `from`, whose bytes must be those that the backup was made of.
absl::Status CopyChecked(const std::string& from, const std::string& to, const Sums& sums, const std::string& name) {
  ASSIGN_OR_RETURN(const std::string digest, CopyFile(from, to));
  const auto expected = sums.find(name);
  if (expected == sums.end() || expected->second == digest) return absl::OkStatus();
  return BackupDamaged(from, "is not what was written");
}

// The copy is whole, of this program's kind, and goes on behind everything that `mark` knows of. Throws
// SQLite::Exception.
absl::Status Prepare(const std::string& path, const HighWater::Mark& mark, int64_t now_wall, Restored* out) {
  SQLite::Database db(path, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX);
  db.exec("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;");
  if (db.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0) return BackupDamaged(path, "is empty");
  const std::string found = db.execAndGet("PRAGMA integrity_check(1)").getString();
  if (found != "ok") return BackupDamaged(path, absl::StrCat("is damaged (", found, ")"));
  RETURN_IF_ERROR(Migrate(db, EmbeddedMigrations(), now_wall));
  const HighWater::Mark stand = ReadStand(db);
  if (stand.instance.empty()) return BackupDamaged(path, "does not say whose it is");
  if (!mark.instance.empty() && mark.instance != stand.instance) {
    return Error(absl::StatusCode::kFailedPrecondition, "BACKUP_FOREIGN",
                 absl::StrCat("the backup is of the instance ", stand.instance, ", the data directory of ",
                              mark.instance, ": give another --data-dir"));
  }
  out->forgotten_events = std::max<int64_t>(0, mark.sequence - stand.sequence);
  // New events come behind all that anybody can have seen; who resumes from before lists again.
  SQLite::Statement move(db, "UPDATE meta SET compacted_sequence = ?, epoch = max(epoch, ?)");
  move.bind(1, std::max(mark.sequence, stand.sequence) + kUnknownEvents);
  move.bind(2, mark.epoch);
  move.exec();
  return absl::OkStatus();
}

// What there is now. Throws SQLite::Exception.
void Describe(const std::string& path, Backup* out) {
  SQLite::Database db(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX);
  out->last_sequence = db.execAndGet("SELECT ifnull(max(sequence), 0) FROM event").getInt64();
  out->runs = db.execAndGet("SELECT count(*) FROM run").getInt64();
  out->bytes = db.execAndGet("PRAGMA page_count").getInt64() * db.execAndGet("PRAGMA page_size").getInt64();
}

// What a try that was refused or broken off has made.
void RemoveCopies(const std::string& data_dir) {
  std::error_code error;
  fs::remove(CopyPath(data_dir, kBackupDatabase), error);
  for (const char* key : kBackupKeys) fs::remove(CopyPath(data_dir, key), error);
}

// The copies become what all that follows goes by: from here on no daemon starts until they are in their places.
absl::Status MakeReady(const std::string& data_dir, const std::string& source, const HighWater::Mark& mark,
                       int64_t now_wall, Restored* out) {
  const std::string copy = CopyPath(data_dir, kBackupDatabase);
  try {
    RETURN_IF_ERROR(Prepare(copy, mark, now_wall, out));
  } catch (const SQLite::Exception& e) {
    return BackupDamaged(source, absl::StrCat("cannot be used (", e.what(), ")"));
  }
  RETURN_IF_ERROR(DigestAndSync(copy).status());
  RETURN_IF_ERROR(SyncFolder(data_dir));
  ORCH_FAULT("restore.copied");
  const std::string ready = ReadyPath(data_dir);
  if (rename(copy.c_str(), ready.c_str()) != 0) return FileError("make", ready, errno);
  RETURN_IF_ERROR(SyncFolder(data_dir));
  ORCH_FAULT("restore.ready");
  return absl::OkStatus();
}

// Gives everything its name and moves aside what had it. May be broken off anywhere and begun again.
absl::Status PutInPlace(const std::string& data_dir, int64_t now_wall, Restored* out) {
  const std::string aside = absl::StrCat(data_dir, "/replaced-", BackupTime(now_wall));
  const auto set_aside = [&](const std::string& name) -> absl::Status {
    const std::string from = absl::StrCat(data_dir, "/", name);
    if (!IsThere(from)) return absl::OkStatus();
    if (mkdir(aside.c_str(), 0700) != 0 && errno != EEXIST) return FileError("make", aside, errno);
    out->replaced = aside;
    if (rename(from.c_str(), absl::StrCat(aside, "/", name).c_str()) != 0) return FileError("move", from, errno);
    RETURN_IF_ERROR(SyncFolder(aside));
    RETURN_IF_ERROR(SyncFolder(data_dir));
    ORCH_FAULT("restore.moved");
    return absl::OkStatus();
  };
  for (const std::string key : kBackupKeys) {
    const std::string copy = CopyPath(data_dir, key);
    if (!IsThere(copy)) continue;  // it is in its place, or was in no backup
    const std::string to = absl::StrCat(data_dir, "/", key);
    ASSIGN_OR_RETURN(const std::string ours, DigestAndSync(copy));
    if (!IsThere(to) || *DigestAndSync(to) != ours) RETURN_IF_ERROR(set_aside(key));
    if (rename(copy.c_str(), to.c_str()) != 0) return FileError("make", to, errno);
  }
  for (const std::string name : {"orchd.db-wal", "orchd.db-shm", "orchd.db"}) RETURN_IF_ERROR(set_aside(name));
  const std::string database = DatabasePath(data_dir);
  if (rename(ReadyPath(data_dir).c_str(), database.c_str()) != 0) return FileError("make", database, errno);
  RETURN_IF_ERROR(SyncFolder(data_dir));
  try {
    Describe(database, &out->backup);
  } catch (const SQLite::Exception& e) {
    return BackupDamaged(database, absl::StrCat("cannot be read (", e.what(), ")"));
  }
  return absl::OkStatus();
}

// Both ways: `copy` makes the copies.
template <typename Copy>
absl::StatusOr<Restored> Restore(const std::string& source, const std::string& data_dir, int64_t now_wall, Copy copy) {
  ASSIGN_OR_RETURN(const auto lock, DataDirLock::Take(data_dir));
  Restored out;
  out.backup.path = source;
  out.earlier = IsThere(ReadyPath(data_dir));
  if (!out.earlier) {
    const HighWater known(data_dir);
    RemoveCopies(data_dir);
    auto remove = absl::MakeCleanup([&data_dir] { RemoveCopies(data_dir); });
    RETURN_IF_ERROR(copy(known, &out));
    RETURN_IF_ERROR(MakeReady(data_dir, source, known.mark(), now_wall, &out));
    std::move(remove).Cancel();
  }
  RETURN_IF_ERROR(PutInPlace(data_dir, now_wall, &out));
  return out;
}

}  // namespace

absl::Status CheckRestored(const std::string& data_dir) {
  if (!IsThere(ReadyPath(data_dir))) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "RESTORE_UNFINISHED",
               absl::StrCat("a restore of ", data_dir,
                            " was broken off; the same `orchd --restore` or `--salvage` again "
                            "finishes it"));
}

absl::StatusOr<Restored> RestoreBackup(const std::string& path, const std::string& data_dir, int64_t now_wall) {
  return Restore(path, data_dir, now_wall, [&](const HighWater&, Restored*) -> absl::Status {
    ASSIGN_OR_RETURN(const Parts parts, FindParts(path));
    RETURN_IF_ERROR(CopyChecked(parts.database, CopyPath(data_dir, kBackupDatabase), parts.sums, kBackupDatabase));
    for (const char* key : kBackupKeys) {
      if (parts.sums.count(key) == 0) continue;
      RETURN_IF_ERROR(CopyChecked(absl::StrCat(path, "/", key), CopyPath(data_dir, key), parts.sums, key));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<Restored> RestoreSalvaged(const std::string& database, const std::string& data_dir, int64_t now_wall) {
  return Restore(database, data_dir, now_wall, [&](const HighWater& known, Restored* out) -> absl::Status {
    ASSIGN_OR_RETURN(out->salvaged, SalvageDatabase(database, CopyPath(data_dir, kBackupDatabase), known, now_wall));
    return absl::OkStatus();
  });
}

}  // namespace orch::store
