#include "server/store/hot_statement.h"

#include <SQLiteCpp/Exception.h>

#include "server/base/check.h"

namespace orch::store {

HotStatement::HotStatement(SQLite::Database& db, const char* sql) : db_(db.getHandle()) {
  const int rc = sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement_, nullptr);
  if (rc != SQLITE_OK) throw SQLite::Exception(db_, rc);
}

void HotStatement::Fail(int rc) {
  bound_ = 0;
  SQLite::Exception e(db_, rc);  // before reset, which may change the message
  sqlite3_reset(statement_);
  throw e;
}

void HotStatement::Run() {
  const int rc = sqlite3_step(statement_);
  if (rc != SQLITE_DONE) Fail(rc == SQLITE_ROW ? SQLITE_MISUSE : rc);
  bound_ = 0;
  sqlite3_reset(statement_);
}

bool HotStatement::Any() {
  const int rc = sqlite3_step(statement_);
  if (rc != SQLITE_DONE && rc != SQLITE_ROW) Fail(rc);
  bound_ = 0;
  sqlite3_reset(statement_);
  return rc == SQLITE_ROW;
}

void HotStatement::RunReturning(int64_t* first, int64_t* second) {
  int rc = sqlite3_step(statement_);
  if (rc != SQLITE_ROW) Fail(rc);
  *first = sqlite3_column_int64(statement_, 0);
  *second = sqlite3_column_int64(statement_, 1);
  rc = sqlite3_step(statement_);
  if (rc != SQLITE_DONE) Fail(rc);
  bound_ = 0;
  sqlite3_reset(statement_);
}

}  // namespace orch::store
