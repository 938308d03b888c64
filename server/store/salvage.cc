#include "server/store/salvage.h"

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/store/backup_files.h"
#include "server/store/migrate.h"
#include "server/store/migrations.h"
#include "server/store/pragmas.h"
#include "server/store/recovery.h"
#include "server/store/sqlite_status.h"
#include "server/store/wal_scan.h"

namespace orch::store {
namespace {

// Looks at keys around damage before a table is given up: behind the last page that can be read there is no end to
// them.
constexpr int kLooks = 20'000;
constexpr int kFaults = 20;
constexpr int64_t kUnknownNumbers = 1'000'000;  // more than were on the pages that are lost

struct Table {
  std::string name;
  std::vector<std::string> columns;
  // What its rows are sorted by, as far as these are whole numbers: `rowid`, or the first columns of its key.
  std::vector<std::string> keys;
};

// The names are those of our own migrations.
std::vector<Table> TablesOf(SQLite::Database& db) {
  std::vector<Table> out;
  SQLite::Statement tables(
      db,
      "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT "
      "LIKE 'sqlite_%' AND name NOT LIKE 'run_name%' AND name <> 'migration' ORDER BY name");
  while (tables.executeStep()) {
    Table table;
    table.name = tables.getColumn(0).getString();
    const bool without_rowid = tables.getColumn(1).getInt() != 0;
    std::map<int, std::pair<std::string, bool>> key;
    SQLite::Statement columns(db, "SELECT name, type, pk FROM pragma_table_info(?)");
    columns.bind(1, table.name);
    while (columns.executeStep()) {
      table.columns.push_back(columns.getColumn(0).getString());
      const int place = columns.getColumn(2).getInt();
      if (place > 0) key[place] = {table.columns.back(), columns.getColumn(1).getString() == "INTEGER"};
    }
    if (!without_rowid) {
      table.keys = {"rowid"};
    } else {
      for (const auto& [place, column] : key) {
        if (!column.second) break;
        table.keys.push_back(column.first);
      }
    }
    out.push_back(std::move(table));
  }
  return out;
}

// Copies one table around what cannot be read of it.
class TableCopy {
 public:
  TableCopy(SQLite::Database& from, SQLite::Database& to, const Table& table, Salvaged* out)
      : from_(from),
        table_(table),
        out_(out),
        insert_(to, absl::StrCat("INSERT OR IGNORE INTO ", table.name, " (", absl::StrJoin(table.columns, ", "),
                                 ") VALUES (", absl::StrJoin(std::vector<std::string>(table.columns.size(), "?"), ", "),
                                 ")")) {}

  // Throws SQLite::Exception if the new database cannot be written.
  void Run() {
    std::optional<int64_t> unused;
    if (!table_.keys.empty()) {
      Range({}, INT64_MIN, INT64_MAX);
    } else if (!Scan({}, INT64_MIN, INT64_MAX, "ASC", &unused)) {  // sorted by text: from both ends
      (void)Scan({}, INT64_MIN, INT64_MAX, "DESC", &unused);
      ++out_->damage[table_.name];
    }
  }

 private:
  // Rows whose first keys are `fixed` and the next one from `low` to `high`.
  void Range(std::vector<int64_t> fixed, int64_t low, int64_t high) {
    if (!MayLook()) return;
    std::optional<int64_t> first;
    std::optional<int64_t> last;
    if (Scan(fixed, low, high, "ASC", &first)) return;
    if (low == high) {
      if (fixed.size() + 1 == table_.keys.size()) return Lose(low);
      fixed.push_back(low);  // all rows of one key: by the next one
      return Range(std::move(fixed), INT64_MIN, INT64_MAX);
    }
    if (!MayLook()) return;
    (void)Scan(fixed, low, high, "DESC", &last);
    // What was read last may be one of several rows with its key, so that key is looked at again.
    const int64_t from = first.value_or(low);
    const int64_t to = last.value_or(high);
    if (from > low || to < high) return from <= to ? Range(std::move(fixed), from, to) : Lose(to);
    // Nothing was won at either end. The nearer half first: keys are dense at their low end.
    const int64_t middle = low + static_cast<int64_t>((static_cast<uint64_t>(high) - static_cast<uint64_t>(low)) / 2);
    Range(fixed, low, middle);
    Range(std::move(fixed), middle + 1, high);
  }

  bool MayLook() {
    if (++looks_ == kLooks) ++out_->damage[table_.name];  // whatever is behind this
    return looks_ < kLooks;
  }

  // Neighbours are one place.
  void Lose(int64_t key) {
    if (!lost_.has_value() || key - 1 != *lost_) ++out_->damage[table_.name];
    lost_ = key;
  }

  // Copies in one direction; `reached` is the last key that was read. False: it met damage.
  bool Scan(const std::vector<int64_t>& fixed, int64_t low, int64_t high, const char* order,
            std::optional<int64_t>* reached) {
    std::optional<SQLite::Statement> rows;
    const int columns = static_cast<int>(table_.columns.size());
    for (;;) {
      try {
        if (!rows.has_value()) {
          rows.emplace(from_, Sql(fixed.size(), order));
          int at = 0;
          for (const int64_t value : fixed) rows->bind(++at, value);
          if (!table_.keys.empty()) {
            rows->bind(++at, low);
            rows->bind(++at, high);
          }
        }
        if (!rows->executeStep()) return true;
        if (!table_.keys.empty()) *reached = rows->getColumn(columns).getInt64();
        for (int i = 0; i < columns; ++i) Bind(i + 1, rows->getColumn(i));
      } catch (const SQLite::Exception&) {
        return false;
      }
      Insert();
    }
  }

  std::string Sql(size_t fixed, absl::string_view order) const {
    std::string sql = absl::StrCat("SELECT ", absl::StrJoin(table_.columns, ", "));
    // An index would be another thing to be damaged.
    if (table_.keys.empty()) {
      return absl::StrCat(sql, " FROM ", table_.name, " NOT INDEXED ORDER BY ", table_.columns[0], " ", order);
    }
    absl::StrAppend(&sql, ", ", table_.keys[fixed], " FROM ", table_.name, " NOT INDEXED WHERE ");
    for (size_t i = 0; i < fixed; ++i) absl::StrAppend(&sql, table_.keys[i], " = ? AND ");
    absl::StrAppend(&sql, table_.keys[fixed], " BETWEEN ? AND ? ORDER BY ");
    for (size_t i = fixed; i < table_.keys.size(); ++i) {
      absl::StrAppend(&sql, i == fixed ? "" : ", ", table_.keys[i], " ", order);
    }
    return sql;
  }

  void Bind(int at, const SQLite::Column& value) {
    if (value.isInteger()) {
      insert_.bind(at, value.getInt64());
    } else if (value.isFloat()) {
      insert_.bind(at, value.getDouble());
    } else if (value.isText()) {
      insert_.bind(at, value.getString());
    } else if (value.isBlob()) {
      const void* bytes = value.getBlob();
      insert_.bind(at, bytes == nullptr ? "" : bytes, value.getBytes());
    } else {
      insert_.bind(at);
    }
  }

  void Insert() {
    try {
      out_->rows += insert_.exec();
    } catch (const SQLite::Exception& e) {
      if (e.getErrorCode() != SQLITE_CONSTRAINT) throw;
      ++out_->damage[table_.name];  // what was read is no row of this table
    }
    insert_.reset();
  }

  SQLite::Database& from_;
  const Table& table_;
  Salvaged* const out_;
  SQLite::Statement insert_;
  int looks_ = 0;
  std::optional<int64_t> lost_;
};

// Leaves out rows that refer to what is not there, until none does.
void RemoveDangling(SQLite::Database& db, const std::vector<Table>& tables) {
  for (bool again = true; again;) {
    again = false;
    for (const Table& table : tables) {
      SQLite::Statement keys(db, "SELECT \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?)");
      keys.bind(1, table.name);
      while (keys.executeStep()) {
        const std::string column = keys.getColumn(1).getString();
        again |= db.exec(absl::StrCat("DELETE FROM ", table.name, " WHERE ", column, " IS NOT NULL AND ", column,
                                      " NOT IN (SELECT ", keys.getColumn(2).getString(), " FROM ",
                                      keys.getColumn(0).getString(), ")")) > 0;
      }
    }
    again |= db.exec(
                 "DELETE FROM run WHERE key NOT IN (SELECT run FROM run_header) OR key NOT IN (SELECT run FROM "
                 "run_progress)") > 0;
  }
}

// To go on with them could do again what was done: a page that another one was written over reads as good.
void DropLiveRuns(SQLite::Database& db, Salvaged* out) {
  SQLite::Statement live(db, "SELECT name FROM run WHERE state < 6 ORDER BY key");
  while (live.executeStep()) out->dropped_runs.push_back(live.getColumn(0).getString());
  db.exec("DELETE FROM event WHERE run IN (SELECT key FROM run WHERE state < 6)");
  db.exec("DELETE FROM run WHERE state < 6");
}

// What belongs to a run that is not there: a start would take it up. In the tables without a foreign key, as far as the
// schema has them.
void RemoveStrays(SQLite::Database& db, const std::vector<Table>& tables) {
  static constexpr const char* kTables[] = {"step", "attempt", "pending_release", "hook", "external_read"};
  for (const Table& table : tables) {
    if (std::find(std::begin(kTables), std::end(kTables), table.name) == std::end(kTables)) continue;
    db.exec(absl::StrCat("DELETE FROM ", table.name, " WHERE run NOT IN (SELECT key FROM run)"));
  }
}

// What is wrong with it: the first that the whole check finds, and whether anything is missing that was acknowledged.
std::vector<std::string> FaultsOf(SQLite::Database& db, const HighWater& known) {
  std::vector<std::string> out;
  try {
    SQLite::Statement check(db, absl::StrCat("PRAGMA integrity_check(", kFaults, ")"));
    while (check.executeStep()) {
      if (check.getColumn(0).getString() != "ok") out.push_back(check.getColumn(0).getString());
    }
    HighWater::Mark stand = ReadStand(db);
    stand.log = ScanLog(db.getHandle());
    if (stand.instance == known.mark().instance && !known.Check(db.getFilename(), stand).ok()) {
      out.push_back(absl::StrCat("it ends at event ", stand.sequence, ", or its log before its end; event ",
                                 known.mark().sequence, " was acknowledged"));
    }
  } catch (const SQLite::Exception& e) {
    out.emplace_back(e.what());
  }
  return out;
}

// No number that a lost row may have had is given again: other rows may still go by it. Before any row is deleted.
void RaiseFloors(SQLite::Database& db, const std::vector<Table>& tables) {
  int64_t run = db.execAndGet("SELECT ifnull(max(key), 0) FROM run").getInt64();
  int64_t artifact = db.execAndGet("SELECT ifnull(max(id), 0) FROM artifact").getInt64();
  for (const Table& table : tables) {
    for (const std::string& column : table.columns) {
      int64_t* const newest = column == "run" ? &run : column == "artifact" ? &artifact : nullptr;
      if (newest == nullptr) continue;
      const std::string sql = absl::StrCat("SELECT ifnull(max(", column, "), 0) FROM ", table.name);
      *newest = std::max<int64_t>(*newest, db.execAndGet(sql).getInt64());
    }
  }
  SQLite::Statement raise(db,
                          "UPDATE meta SET run_floor = max(run_floor, ?), artifact_floor = max(artifact_floor, ?), "
                          "pipeline_floor = max(pipeline_floor, (SELECT ifnull(max(id), 0) FROM pipeline) + ?)");
  raise.bind(1, run + kUnknownNumbers);
  raise.bind(2, artifact + kUnknownNumbers);
  raise.bind(3, kUnknownNumbers);
  raise.exec();
}

// The one row of facts, if it was lost.
absl::Status MendMeta(SQLite::Database& db, const std::string& from, const HighWater::Mark& mark) {
  if (db.execAndGet("SELECT count(*) FROM meta").getInt() > 0) return absl::OkStatus();
  if (mark.instance.empty()) {
    return Error(absl::StatusCode::kDataLoss, "BACKUP_DAMAGED",
                 absl::StrCat(from,
                              " does not say any more whose it is, and the data directory has no `high-water` that "
                              "does"));
  }
  SQLite::Statement meta(db, "INSERT INTO meta (id, instance, epoch, boot_id) VALUES (1, ?, ?, '')");
  meta.bind(1, mark.instance);
  meta.bind(2, mark.epoch);
  meta.exec();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Salvaged> SalvageDatabase(const std::string& from, const std::string& to, const HighWater& known,
                                         int64_t now_wall) {
  struct stat st;
  if (stat(from.c_str(), &st) != 0) {
    return Error(absl::StatusCode::kNotFound, "BACKUP_MISSING", absl::StrCat("there is no ", from));
  }
  Salvaged out;
  std::unique_ptr<SQLite::Database> source;
  size_t version = 0;
  try {
    source = std::make_unique<SQLite::Database>(from, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, kWriterBusyMillis);
    SetUpReader(*source);
    if (source->execAndGet("PRAGMA application_id").getInt() != kApplicationId) {
      return Error(absl::StatusCode::kFailedPrecondition, "DATABASE_FOREIGN",
                   absl::StrCat(from, " is not a database of orchd"));
    }
    version = static_cast<size_t>(std::max(0, source->execAndGet("PRAGMA user_version").getInt()));
    (void)source->execAndGet("SELECT count(*) FROM sqlite_schema");
    out.faults = FaultsOf(*source, known);
  } catch (const SQLite::Exception& e) {
    return Error(absl::StatusCode::kDataLoss, "BACKUP_DAMAGED",
                 absl::StrCat("not even the schema of ", from, " can be read (", e.what(), "): take a backup"));
  }
  const std::span<const Migration> migrations = EmbeddedMigrations();
  if (version > migrations.size()) {
    return Error(absl::StatusCode::kFailedPrecondition, "SCHEMA_NEWER",
                 absl::StrCat(from, " has schema ", version, ", this orchd knows up to ", migrations.size()));
  }
  if (mknod(to.c_str(), S_IFREG | 0600, 0) != 0) return FileError("make", to, errno);
  try {
    SQLite::Database db(to, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX);
    db.exec("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;");  // made anew if this ends early; synced by the caller
    RETURN_IF_ERROR(Migrate(db, migrations.first(version), now_wall));
    const std::vector<Table> tables = TablesOf(db);
    db.exec("PRAGMA foreign_keys=OFF");
    {
      SQLite::Transaction transaction(db);
      for (const Table& table : tables) {
        TableCopy(*source, db, table, &out).Run();
      }
      transaction.commit();
    }
    db.exec("PRAGMA foreign_keys=ON");
    RETURN_IF_ERROR(MendMeta(db, from, known.mark()));
    RaiseFloors(db, tables);
    RemoveDangling(db, tables);
    if (!out.faults.empty()) DropLiveRuns(db, &out);
    RemoveStrays(db, tables);
    db.exec("INSERT INTO run_name (rowid, name) SELECT key, name FROM run");
  } catch (const SQLite::Exception& e) {
    return FromSqlite(e, absl::StrCat("making ", to));
  }
  return out;
}

}  // namespace orch::store
