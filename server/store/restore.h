// The way back: a backup, or what a damaged database still has, in the place of what a data directory holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/backup.h"
#include "server/store/salvage.h"

namespace orch::store {

struct Restored {
  Backup backup;                 // what is there now
  bool earlier = false;          // a restore that had been broken off was finished; what was named was not looked at
  std::string replaced;          // the folder that has what was there before; empty: there was nothing
  int64_t forgotten_events = 0;  // so many acknowledged ones are not in it, as far as that is known
  std::optional<Salvaged> salvaged;  // RestoreSalvaged
};

// Puts a backup's folder, or a database file alone, in the place of what is in `data_dir`, which nobody may use. What
// was there is moved aside, never removed. Watchers are told to begin again, and no event's number is given twice. A
// kill leaves all as it was, or a directory with which no daemon starts until the same call has finished it.
// NOT_FOUND (BACKUP_MISSING); DATA_LOSS (BACKUP_DAMAGED); FAILED_PRECONDITION: DATA_DIR_LOCKED, BACKUP_HAS_LOG (a file
// that is no database by itself), BACKUP_FOREIGN (the directory belongs to another instance), SCHEMA_NEWER and the
// other refusals of Migrate, BACKUP_FAILED; RESOURCE_EXHAUSTED (DISK_FULL).
absl::StatusOr<Restored> RestoreBackup(const std::string& path, const std::string& data_dir, int64_t now_wall);

// The same with what a database, whose log may be beside it, still has: see SalvageDatabase, whose errors come too. It
// may be the one of `data_dir` itself.
absl::StatusOr<Restored> RestoreSalvaged(const std::string& database, const std::string& data_dir, int64_t now_wall);

// FAILED_PRECONDITION (RESTORE_UNFINISHED) if one was broken off.
absl::Status CheckRestored(const std::string& data_dir);

}  // namespace orch::store
