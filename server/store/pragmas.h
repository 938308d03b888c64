// How connections are set up.
#pragma once

#include <SQLiteCpp/Database.h>

#include <string>

#include "absl/strings/string_view.h"

namespace orch::store {

// `PRAGMA application_id` of our files: "orch".
inline constexpr int kApplicationId = 0x6f726368;

// How long the writer waits for a lock. Nobody else writes, but a connection that opens may hold the log's locks for a
// moment, and an error of a commit is final.
inline constexpr int kWriterBusyMillis = 5000;

// DATA/orchd.db.
std::string DatabasePath(absl::string_view data_dir);

// Throw SQLite::Exception.
void SetUpWriter(SQLite::Database& db);
void SetUpReader(SQLite::Database& db);

}  // namespace orch::store
