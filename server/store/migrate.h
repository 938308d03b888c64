// Brings a database to the newest schema.
#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "server/store/migrations.h"

namespace orch::store {

// Each migration that is not yet applied runs in a transaction of its own, with its `-- verify:` queries and a check of
// the foreign keys before the commit; a crash in between leaves the schema before it. `now` is microseconds UTC.
// FAILED_PRECONDITION: SCHEMA_NEWER (the file is from a newer orchd), MIGRATION_CHANGED (a past migration is not the
// one that was applied), DATABASE_FOREIGN (not a file of orchd). DATA_LOSS: DATABASE_CORRUPT. INTERNAL
// (MIGRATION_FAILED): a verify query returned rows.
absl::Status Migrate(SQLite::Database& db, std::span<const Migration> migrations, int64_t now);

}  // namespace orch::store
