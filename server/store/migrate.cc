#include "server/store/migrate.h"

#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/store/pragmas.h"
#include "server/store/sqlite_status.h"

namespace orch::store {
namespace {

absl::Status Refuse(const char* reason, absl::string_view message) {
  return Error(absl::StatusCode::kFailedPrecondition, reason, message);
}

std::vector<std::string> VerifyQueries(absl::string_view sql) {
  std::vector<std::string> out;
  for (absl::string_view line : absl::StrSplit(sql, '\n')) {
    if (absl::ConsumePrefix(&line, "-- verify:")) out.emplace_back(line);
  }
  return out;
}

// What is recorded must be what this program would have applied.
absl::Status CheckPast(SQLite::Database& db, std::span<const Migration> migrations, int applied) {
  if (applied > static_cast<int>(migrations.size())) {
    return Refuse("SCHEMA_NEWER",
                  absl::StrCat("the database ", db.getFilename(), " has schema ", applied, ", this orchd knows up to ",
                               migrations.size(), ": start the newer orchd that wrote it, or restore an older backup"));
  }
  SQLite::Statement rows(db, "SELECT number, name, sha256 FROM migration ORDER BY number");
  int expected = 0;
  while (rows.executeStep()) {
    ++expected;
    const int number = rows.getColumn(0).getInt();
    if (number != expected || number > applied) {
      return Refuse("MIGRATION_CHANGED",
                    absl::StrCat("the database ", db.getFilename(), " records migration ", number, " where ", expected,
                                 " is due: it was changed by hand; restore a backup"));
    }
    const Migration& ours = migrations[static_cast<size_t>(number) - 1];
    if (rows.getColumn(2).getString() != ours.sha256) {
      return Refuse("MIGRATION_CHANGED",
                    absl::StrCat("the database ", db.getFilename(), " was made with another text of ",
                                 rows.getColumn(1).getString(), " than this orchd has: use the orchd that made it"));
    }
  }
  if (expected != applied) {
    return Refuse("MIGRATION_CHANGED", absl::StrCat("the database ", db.getFilename(), " has schema ", applied,
                                                    " but records ", expected, " migrations: restore a backup"));
  }
  return absl::OkStatus();
}

absl::Status Apply(SQLite::Database& db, const Migration& migration, int64_t now) {
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  db.exec(migration.sql);
  for (const std::string& query : VerifyQueries(migration.sql)) {
    SQLite::Statement verify(db, query);
    if (verify.executeStep()) {
      return Error(absl::StatusCode::kInternal, "MIGRATION_FAILED",
                   absl::StrCat(migration.name, " was not applied, its check found rows: ", query));
    }
  }
  SQLite::Statement foreign(db, "PRAGMA foreign_key_check");
  if (foreign.executeStep()) {
    return Error(absl::StatusCode::kInternal, "MIGRATION_FAILED",
                 absl::StrCat(migration.name, " was not applied, it would leave rows of ",
                              foreign.getColumn(0).getString(), " without what they refer to"));
  }
  SQLite::Statement record(db, "INSERT INTO migration (number, name, sha256, applied) VALUES (?, ?, ?, ?)");
  record.bind(1, migration.number);
  record.bind(2, migration.name);
  record.bind(3, migration.sha256);
  record.bind(4, now);
  record.exec();
  ORCH_FAULT("start.migrating");
  db.exec(absl::StrCat("PRAGMA application_id=", kApplicationId, "; PRAGMA user_version=", migration.number));
  // Statements that still stand on a row would keep the transaction from ending.
  transaction.commit();
  Log(LogLevel::kInfo, "database migrated", {{"migration", migration.name}});
  return absl::OkStatus();
}

}  // namespace

absl::Status Migrate(SQLite::Database& db, std::span<const Migration> migrations, int64_t now) {
  try {
    const int applied = db.execAndGet("PRAGMA user_version").getInt();
    const int application = db.execAndGet("PRAGMA application_id").getInt();
    const bool empty = db.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0;
    if (!empty && application != kApplicationId) {
      return Refuse("DATABASE_FOREIGN",
                    absl::StrCat(db.getFilename(), " is not a database of orchd: use another data directory"));
    }
    if (applied > 0 || !empty) RETURN_IF_ERROR(CheckPast(db, migrations, applied));
    for (const Migration& migration : migrations) {
      if (migration.number > applied) RETURN_IF_ERROR(Apply(db, migration, now));
    }
    return absl::OkStatus();
  } catch (const SQLite::Exception& e) {
    return FromSqlite(e, absl::StrCat("migration of ", db.getFilename()));
  }
}

}  // namespace orch::store
