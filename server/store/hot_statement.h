// A prepared statement for the writer's hot path: SQLite's C API directly, values bound in order and without copies.
// The only place that binds so; everything else goes through SQLiteCpp.
#pragma once

#include <SQLiteCpp/Database.h>
#include <sqlite3.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace orch::store {

// Each use binds all parameters from the first: `s.Int(1).Text(name).Run();`. Texts must live until Run returns.
// Everything throws SQLite::Exception.
class HotStatement {
 public:
  HotStatement(SQLite::Database& db, const char* sql);
  ~HotStatement() { sqlite3_finalize(statement_); }
  HotStatement(const HotStatement&) = delete;
  HotStatement& operator=(const HotStatement&) = delete;

  HotStatement& Int(int64_t v) { return Bound(sqlite3_bind_int64(statement_, ++bound_, v)); }
  HotStatement& IntOrNull(const std::optional<int>& v) { return v ? Int(*v) : Null(); }
  HotStatement& Real(double v) { return Bound(sqlite3_bind_double(statement_, ++bound_, v)); }
  HotStatement& Null() { return Bound(sqlite3_bind_null(statement_, ++bound_)); }
  HotStatement& Text(const std::string& v) {
    return Bound(sqlite3_bind_text(statement_, ++bound_, v.data(), static_cast<int>(v.size()), SQLITE_STATIC));
  }
  HotStatement& TextOrNull(const std::string& v) { return v.empty() ? Null() : Text(v); }
  HotStatement& Blob(const std::string& v) {
    return Bound(sqlite3_bind_blob(statement_, ++bound_, v.data(), static_cast<int>(v.size()), SQLITE_STATIC));
  }
  HotStatement& BlobOrNull(const std::string& v) { return v.empty() ? Null() : Blob(v); }

  // Runs a statement that returns no rows.
  void Run();
  // Runs a query: has it a row?
  bool Any();
  // Runs one with RETURNING of two integers for one row.
  void RunReturning(int64_t* first, int64_t* second);

 private:
  HotStatement& Bound(int rc) {
    if (rc != SQLITE_OK) Fail(rc);
    return *this;
  }
  [[noreturn]] void Fail(int rc);

  sqlite3* const db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

}  // namespace orch::store
