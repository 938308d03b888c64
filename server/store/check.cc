#include "server/store/check.h"

#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/store/lock.h"
#include "server/store/pragmas.h"
#include "server/store/restore.h"
#include "server/store/sqlite_status.h"

namespace orch::store {
namespace {

constexpr int64_t kQuickBytes = 16 << 20;
constexpr int kFaults = 100;

std::string Bytes(const SQLite::Column& column) {
  const auto* bytes = static_cast<const char*>(column.getBlob());
  return bytes == nullptr ? "" : std::string(bytes, static_cast<size_t>(column.getBytes()));
}

void CheckSpecs(SQLite::Database& db, CheckedDatabase* out) {
  SQLite::Statement pipelines(db, "SELECT id, name, version, digest FROM pipeline ORDER BY id");
  while (pipelines.executeStep()) {
    const std::string digest = Bytes(pipelines.getColumn(3));
    Sha256 hash;
    SQLite::Statement slices(db, "SELECT bytes FROM spec_slice WHERE digest = ? ORDER BY ix");
    slices.bind(1, digest.data(), static_cast<int>(digest.size()));
    while (slices.executeStep()) hash.Update(Bytes(slices.getColumn(0)));
    if (hash.Finish() == digest) {
      ++out->pipelines;
    } else {
      out->faults.push_back(absl::StrCat("the text of pipeline `", pipelines.getColumn(1).getString(), "` version ",
                                         pipelines.getColumn(2).getInt64(), " is not what was stored"));
    }
  }
}

void CheckBlobs(SQLite::Database& db, CheckedDatabase* out) {
  // The bytes of those that are being removed may be gone. A database from before there were any has no list of them.
  const bool listed = db.execAndGet("SELECT count(*) FROM sqlite_schema WHERE name = 'blob_removal'").getInt() > 0;
  SQLite::Statement blobs(db, absl::StrCat("SELECT digest, size, directory, inline_bytes FROM blob",
                                           listed ? " WHERE digest NOT IN (SELECT digest FROM blob_removal)" : ""));
  while (blobs.executeStep()) {
    BlobRow row;
    row.digest = Bytes(blobs.getColumn(0));
    row.size = blobs.getColumn(1).getInt64();
    row.directory = blobs.getColumn(2).getInt() != 0;
    if (blobs.getColumn(3).isNull()) {
      out->blob_files.push_back(std::move(row));
    } else if (Sha256Of(Bytes(blobs.getColumn(3))) == row.digest) {
      ++out->inline_blobs;
    } else {
      out->faults.push_back(absl::StrCat("the bytes of sha256:", Hex(row.digest), " in the database are not those"));
    }
  }
}

}  // namespace

absl::Status QuickCheck(SQLite::Database& db) {
  const int64_t bytes = db.execAndGet("PRAGMA page_count").getInt64() * db.execAndGet("PRAGMA page_size").getInt64();
  if (bytes > kQuickBytes) return absl::OkStatus();
  const std::string found = db.execAndGet("PRAGMA quick_check(1)").getString();
  return found == "ok" ? absl::OkStatus() : Damaged(absl::StrCat("the check of ", db.getFilename(), " found: ", found));
}

absl::StatusOr<CheckedDatabase> CheckDatabase(const std::string& data_dir) {
  ASSIGN_OR_RETURN(const auto lock, DataDirLock::Take(data_dir));
  RETURN_IF_ERROR(CheckRestored(data_dir));
  const std::string path = DatabasePath(data_dir);
  struct stat st;
  if (stat(path.c_str(), &st) != 0) {
    return Error(absl::StatusCode::kNotFound, "DATABASE_MISSING", absl::StrCat("there is no ", path));
  }
  try {
    SQLite::Database db(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, kWriterBusyMillis);
    SetUpReader(db);
    CheckedDatabase out;
    SQLite::Statement integrity(db, absl::StrCat("PRAGMA integrity_check(", kFaults, ")"));
    while (integrity.executeStep()) {
      const std::string line = integrity.getColumn(0).getString();
      if (line != "ok") out.faults.push_back(line);
    }
    if (!out.faults.empty()) return out;
    SQLite::Statement foreign(db, "PRAGMA foreign_key_check");
    while (foreign.executeStep()) {
      out.faults.push_back(absl::StrCat("a row of ", foreign.getColumn(0).getString(), " refers to nothing"));
    }
    out.runs = db.execAndGet("SELECT count(*) FROM run").getInt64();
    CheckSpecs(db, &out);
    CheckBlobs(db, &out);
    return out;
  } catch (const SQLite::Exception& e) {
    return FromSqlite(e, absl::StrCat("the check of ", path));
  }
}

}  // namespace orch::store
