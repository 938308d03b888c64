// Looks for damage in the database.
#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/model/rows.h"

namespace orch::store {

// At each start: the structure of a database of at most 16 MiB, in about 4 ms a MiB. DATA_LOSS (DATABASE_CORRUPT) with
// the first fault. Throws SQLite::Exception.
absl::Status QuickCheck(SQLite::Database& db);

struct CheckedDatabase {
  std::vector<std::string> faults;  // empty: it is whole
  int64_t runs = 0;
  int64_t pipelines = 0;            // whose text has its digest
  int64_t inline_blobs = 0;         // whose bytes have their digest
  std::vector<BlobRow> blob_files;  // to be looked at by who knows where they are
};

// Everything that can be known from the database alone. Takes the lock of the data directory and writes nothing; the
// Writer's refusals, and DATABASE_MISSING.
absl::StatusOr<CheckedDatabase> CheckDatabase(const std::string& data_dir);

}  // namespace orch::store
