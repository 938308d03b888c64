#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/store/batch_writer.h"
#include "server/store/check.h"
#include "server/store/high_water.h"
#include "server/store/lock.h"
#include "server/store/migrate.h"
#include "server/store/pragmas.h"
#include "server/store/recovery.h"
#include "server/store/reserve.h"
#include "server/store/restore.h"
#include "server/store/sqlite_status.h"
#include "server/store/store.h"
#include "server/store/sync_vfs.h"
#include "server/store/wal.h"

namespace orch::store {
namespace {

// A database of no bytes is new to SQLite, which then throws the log beside it away: what a lost or emptied file leaves
// must not be taken for a fresh start.
absl::Status CheckFiles(const std::string& path) {
  struct stat db, wal;
  const bool has_db = stat(path.c_str(), &db) == 0 && db.st_size > 0;
  const bool has_wal = stat(absl::StrCat(path, "-wal").c_str(), &wal) == 0 && wal.st_size > 0;
  if (has_wal && !has_db) {
    return Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT",
                 absl::StrCat(path, " is missing or empty but its log ", path,
                              "-wal is there: put the file back from where it went or from a backup, or start with an "
                              "empty data directory"));
  }
  return absl::OkStatus();
}

class WriterImpl : public Writer {
 public:
  WriterImpl(const StoreOptions& options, std::unique_ptr<DataDirLock> lock)
      : options_(options),
        lock_(std::move(lock)),
        reserve_(options.data_dir, options.reserve_bytes),
        high_water_(options.data_dir),
        vfs_(options.vfs) {}

  absl::Status Start(Now now) {
    const std::string path = DatabasePath(options_.data_dir);
    RETURN_IF_ERROR(CheckRestored(options_.data_dir));
    RETURN_IF_ERROR(CheckFiles(path));
    // Made here for its mode, which SQLite gives to the log as well. Not by open(): closing any descriptor of the file
    // drops SQLite's locks on it.
    (void)mknod(path.c_str(), S_IFREG | 0600, 0);  // mostly it exists; what else is wrong SQLite says better
    absl::Status status = OpenDatabase(path, now);
    // A start needs a little space too, for the index of the log first of all.
    while (ReasonOf(status) == "DISK_FULL" && reserve_.Free()) status = OpenDatabase(path, now);
    RETURN_IF_ERROR(status);
    last_sequence_ = meta_.last_sequence;
    NoteHighWater();
    syncs_before_ = vfs_.syncs();
    return absl::OkStatus();
  }

  const Meta& meta() const override { return meta_; }

  absl::Status Commit(Batch* batch) override {
    if (!failed_.ok()) return failed_;
    if (batch->empty()) return absl::OkStatus();
    bool retried = false;
    while (true) {
      try {
        SQLite::Transaction transaction(*db_, SQLite::TransactionBehavior::IMMEDIATE);
        const int64_t rows = batch_writer_->Write(batch);
        ORCH_FAULT("commit.written");
        transaction.commit();
        ++stats_.commits;
        stats_.rows += rows;
        if (!batch->events.empty()) last_sequence_ = batch->events.back().sequence;
        NoteHighWater();
        return absl::OkStatus();
      } catch (const SQLite::Exception& e) {
        if (IsFull(e) && !retried && reserve_.Free()) {
          retried = true;
          continue;
        }
        failed_ = FromSqlite(e, "commit");
        WriteBackOnClose(false);  // its disk is not to be trusted
        return failed_;
      }
    }
  }

  bool LowOnSpace() override { return reserve_.LowOnSpace(); }

  void MaybeCheckpoint(bool idle) override {
    if (!failed_.ok()) return;
    try {
      // The mark must not say that there is a log when there is none any more.
      if (idle && wal_->WillCut()) high_water_.NoteAndSync({meta_.instance, meta_.epoch, last_sequence_, {}});
      wal_->MaybeCheckpoint(idle);
    } catch (const SQLite::Exception& e) {
      // The log has everything, but the disk cannot be trusted: the next commit says so. A full disk is no such case:
      // the database could not grow, the log stays.
      if (IsFull(e)) return;
      failed_ = FromSqlite(e, "checkpoint");
      WriteBackOnClose(false);
    }
  }

  absl::StatusOr<std::vector<RunKey>> LiveRunKeys() override {
    try {
      return ReadLiveRunKeys(*db_);
    } catch (const SQLite::Exception& e) {
      return FromSqlite(e, "reading the live runs");
    }
  }

  absl::StatusOr<LiveRun> LoadRun(RunKey key) override {
    try {
      LiveRun run;
      if (!ReadLiveRun(*db_, key, &run)) {
        return Error(absl::StatusCode::kNotFound, "RUN_NOT_FOUND", absl::StrCat("there is no run with key ", key));
      }
      return run;
    } catch (const SQLite::Exception& e) {
      return FromSqlite(e, absl::StrCat("loading run ", key));
    }
  }

  absl::StatusOr<std::vector<HookRow>> OpenHooks() override {
    try {
      return ReadOpenHooks(*db_);
    } catch (const SQLite::Exception& e) {
      return FromSqlite(e, "reading the hooks that are open");
    }
  }

  absl::StatusOr<std::vector<AttemptRow>> PendingReleases() override {
    try {
      return ReadPendingReleases(*db_);
    } catch (const SQLite::Exception& e) {
      return FromSqlite(e, "reading what is left to clean up");
    }
  }

  Stats stats() const override {
    Stats stats = stats_;
    stats.syncs = vfs_.syncs() - syncs_before_;
    stats.wal_bytes = wal_->bytes();
    return stats;
  }

 private:
  absl::Status OpenDatabase(const std::string& path, Now now) {
    batch_writer_.reset();
    wal_.reset();
    db_.reset();
    try {
      db_ = std::make_unique<SQLite::Database>(
          path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_NOMUTEX, kWriterBusyMillis, vfs_.name());
      // A close writes the log back, which would put what is left of a damaged log over what the database has.
      WriteBackOnClose(false);
      SetUpWriter(*db_);
      RETURN_IF_ERROR(CheckHighWater(path));  // before anything is added to the log
      RETURN_IF_ERROR(Migrate(*db_, EmbeddedMigrations(), now.wall));
      ORCH_FAULT("start.migrated");
      RETURN_IF_ERROR(QuickCheck(*db_));
      batch_writer_ = std::make_unique<BatchWriter>(*db_);  // finds tables that are not as they should be
      WriteBackOnClose(true);
      wal_ = std::make_unique<Wal>(db_.get(), options_.wal_grow_bytes, options_.wal_soft_bytes);
      meta_ = BeginEpoch(*db_, BootId(), now);
      ORCH_FAULT("start.epoch");
      return absl::OkStatus();
    } catch (const SQLite::Exception& e) {
      // A table that is not as the migrations made it: the text of the schema was hit.
      if (e.getErrorCode() == SQLITE_ERROR) return Damaged(absl::StrCat("opening ", path, " failed: ", e.what()));
      return FromSqlite(e, absl::StrCat("opening ", path));
    }
  }

  void WriteBackOnClose(bool on) {
    (void)sqlite3_db_config(db_->getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on ? 0 : 1, nullptr);  // cannot fail
  }

  absl::Status CheckHighWater(const std::string& path) {
    if (high_water_.empty()) return absl::OkStatus();
    HighWater::Mark now;
    if (db_->execAndGet("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").getInt() == 0) {
      return high_water_.Check(path, now);
    }
    now = ReadStand(*db_);
    now.log = ScanLog(db_->getHandle());
    return high_water_.Check(path, now);
  }
  void NoteHighWater() { high_water_.Note({meta_.instance, meta_.epoch, last_sequence_, wal_->end()}); }

  const StoreOptions options_;
  std::unique_ptr<DataDirLock> lock_;  // released last
  Reserve reserve_;
  HighWater high_water_;
  SyncVfs vfs_;
  std::unique_ptr<SQLite::Database> db_;
  std::unique_ptr<Wal> wal_;
  std::unique_ptr<BatchWriter> batch_writer_;
  Meta meta_;
  Stats stats_;
  int64_t last_sequence_ = 0;
  int64_t syncs_before_ = 0;
  absl::Status failed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Writer>> Writer::Open(const StoreOptions& options, Now now) {
  ASSIGN_OR_RETURN(auto lock, DataDirLock::Take(options.data_dir));
  ORCH_FAULT("start.locked");
  auto writer = std::make_unique<WriterImpl>(options, std::move(lock));
  RETURN_IF_ERROR(writer->Start(now));
  return std::unique_ptr<Writer>(std::move(writer));
}

}  // namespace orch::store
