// From SQLite's errors to ours. Exceptions of SQLiteCpp end here and in the functions that call this.
#pragma once

#include <SQLiteCpp/Exception.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace orch::store {

// True if the disk was full when something was to be written. Not if a sync said so: what it could not write is lost.
bool IsFull(const SQLite::Exception& e);

// DATA_LOSS (DATABASE_CORRUPT): what was found, and what can be done.
absl::Status Damaged(absl::string_view what);

// `doing` is what failed: "commit", "read of runs".
absl::Status FromSqlite(const SQLite::Exception& e, absl::string_view doing);

}  // namespace orch::store
