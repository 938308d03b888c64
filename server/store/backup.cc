#include "server/store/backup.h"

#include <SQLiteCpp/Backup.h>
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/store/backup_files.h"
#include "server/store/pragmas.h"
#include "server/store/recovery.h"
#include "server/store/sqlite_status.h"

namespace orch::store {
namespace {

namespace fs = std::filesystem;

constexpr int kPagesAtOnce = 256;      // 1 MiB between two looks at whether it shall stop
constexpr int kStepsAtOnce = 100'000;  // of SQLite's machine: some milliseconds
constexpr size_t kInstancePart = 13;   // of the UUID: the time of its making

// The names of one database's backups sort by time.
std::string NamePrefix(const std::string& instance) {
  return absl::StrCat("orchd-", instance.substr(0, kInstancePart), "-");
}

// The target's disk has failed or is full, unless the fault is one of what is copied.
absl::Status CopyError(const SQLite::Exception& e, const std::string& from, const std::string& to) {
  const int code = e.getErrorCode() & 0xff;
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return Damaged(absl::StrCat("copying ", from, " failed: ", e.what(), "; earlier backups are kept"));
  }
  if (code == SQLITE_INTERRUPT) return BackupStopped();
  if (code == SQLITE_FULL) return FileError("write", to, ENOSPC);
  return Error(
      absl::StatusCode::kFailedPrecondition, "BACKUP_FAILED",
      absl::StrCat("cannot copy ", from, " to ", to, ": ", e.what(), " (SQLite code ", e.getExtendedErrorCode(), ")"));
}

// Copies one state of the database and looks at what became of it.
absl::Status CopyDatabase(SQLite::Database& source, const std::string& to, const std::function<bool()>& stopping,
                          Backup* out) {
  try {
    SQLite::Database copy(to, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_NOMUTEX);
    copy.exec("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;");  // it has no name yet, and is synced as a whole
    {
      SQLite::Backup pages(copy, source);
      while (pages.executeStep(kPagesAtOnce) != SQLITE_DONE) {
        if (stopping()) return BackupStopped();
        ORCH_FAULT("backup.copying");
      }
    }
    copy.exec("PRAGMA journal_mode=DELETE;");  // one file, also for who opens it elsewhere
    const auto ask = [](void* asked) { return (*static_cast<const std::function<bool()>*>(asked))() ? 1 : 0; };
    sqlite3_progress_handler(copy.getHandle(), kStepsAtOnce, ask,
                             const_cast<std::function<bool()>*>(&stopping));  // only called, and not after this
    const std::string found = copy.execAndGet("PRAGMA quick_check(1)").getString();
    if (found != "ok") {
      return Damaged(absl::StrCat("the check of a copy of ", source.getFilename(), " found: ", found,
                                  "; earlier backups are kept"));
    }
    out->runs = copy.execAndGet("SELECT count(*) FROM run").getInt64();
    out->bytes = copy.execAndGet("PRAGMA page_count").getInt64() * copy.execAndGet("PRAGMA page_size").getInt64();
    return absl::OkStatus();
  } catch (const SQLite::Exception& e) {
    return CopyError(e, source.getFilename(), to);
  }
}

// What an earlier one that was killed has left, and what is more than `keep` with `newest`, which stays even if the
// clock was set back. What cannot be removed stays.
void RemoveOld(const std::string& folder, const std::string& prefix, const std::string& newest, int keep) {
  std::vector<fs::path> others;
  std::error_code error;
  for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (absl::StartsWith(name, absl::StrCat(".", prefix))) fs::remove_all(entry->path(), ignored);
    if (absl::StartsWith(name, prefix) && entry->path() != newest) others.push_back(entry->path());
  }
  if (keep <= 0 || others.size() + 1 <= static_cast<size_t>(keep)) return;
  std::sort(others.begin(), others.end());
  others.resize(others.size() + 1 - static_cast<size_t>(keep));
  for (const fs::path& path : others) {
    // First out of the way, so that half of one is never taken for one.
    const fs::path hidden = path.parent_path() / absl::StrCat(".", path.filename().string());
    fs::rename(path, hidden, error);
    fs::remove_all(hidden, error);
  }
}

}  // namespace

absl::StatusOr<Backup> MakeBackup(const BackupOptions& options) {
  if (mkdir(options.folder.c_str(), 0700) != 0 && errno != EEXIST) return FileError("make", options.folder, errno);
  Backup out;
  out.made = options.now_wall;
  try {
    SQLite::Database source(DatabasePath(options.data_dir), SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX,
                            kWriterBusyMillis);
    SetUpReader(source);
    SQLite::Transaction snapshot(source);  // from the first look on
    const HighWater::Mark stand = ReadStand(source);
    if (stand.instance.empty()) return Damaged("the table meta is empty");
    out.last_sequence = stand.sequence;
    const std::string prefix = NamePrefix(stand.instance);
    const std::string name = absl::StrCat(prefix, BackupTime(options.now_wall));
    const std::string unnamed = absl::StrCat(options.folder, "/.", name);
    out.path = absl::StrCat(options.folder, "/", name);
    RemoveOld(options.folder, prefix, out.path, 0);
    if (mkdir(unnamed.c_str(), 0700) != 0) return FileError("make", unnamed, errno);
    auto remove = absl::MakeCleanup([&unnamed] {
      std::error_code error;
      fs::remove_all(unnamed, error);
    });
    const std::string database = absl::StrCat(unnamed, "/", kBackupDatabase);
    if (mknod(database.c_str(), S_IFREG | 0600, 0) != 0) return FileError("make", database, errno);  // for its mode
    RETURN_IF_ERROR(CopyDatabase(source, database, options.stopping, &out));
    Sums sums;
    ASSIGN_OR_RETURN(sums[kBackupDatabase], DigestAndSync(database, options.stopping));
    for (const char* key : kBackupKeys) {
      const std::string from = absl::StrCat(options.data_dir, "/", key);
      std::error_code error;
      if (!fs::exists(from, error)) continue;
      ASSIGN_OR_RETURN(sums[key], CopyFile(from, absl::StrCat(unnamed, "/", key)));
    }
    RETURN_IF_ERROR(WriteSums(unnamed, sums));
    RETURN_IF_ERROR(SyncFolder(unnamed));
    ORCH_FAULT("backup.copied");
    if (rename(unnamed.c_str(), out.path.c_str()) != 0) return FileError("name", out.path, errno);
    std::move(remove).Cancel();
    RETURN_IF_ERROR(SyncFolder(options.folder));
    ORCH_FAULT("backup.named");
    RemoveOld(options.folder, prefix, out.path, options.keep);
    return out;
  } catch (const SQLite::Exception& e) {
    return FromSqlite(e, "reading for a backup");
  }
}

}  // namespace orch::store
