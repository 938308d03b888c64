// Copies of the database that a running daemon makes; restore.h has the way back.
//
// A backup is a folder of mode 0700: `orchd.db` as it stood after one commit, the keys of the data directory, and
// `SHA256SUMS`, which `sha256sum -c` reads. Outputs and logs are not in it: they are files that never change, beside
// the database.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace orch::store {

struct Backup {
  std::string path;           // its folder
  int64_t made = 0;           // microseconds UTC
  int64_t bytes = 0;          // of the database
  int64_t runs = 0;           // in it
  int64_t last_sequence = 0;  // of the newest event in it
};

struct BackupOptions {
  std::string data_dir;
  std::string folder;  // absolute; gets a folder for each backup, and is made if its parent is there
  int keep = 0;        // so many of this database's backups in `folder` stay, this and the newest others; 0: all
  int64_t now_wall = 0;
  std::function<bool()> stopping = [] { return false; };  // asked every few MiB
};

// Beside the running writer, which goes on meanwhile; its log cannot shrink until the copy is made. The copy is checked
// before it has its name: what is damaged is never kept, and does not push out a backup that is good. A kill leaves at
// most a folder with a dot at its head, which the next one removes. One at a time for a folder.
// DATA_LOSS (DATABASE_CORRUPT): the database itself is damaged. FAILED_PRECONDITION (BACKUP_FAILED): the path and what
// went wrong there. RESOURCE_EXHAUSTED (DISK_FULL): of that disk. UNAVAILABLE (STOPPING).
absl::StatusOr<Backup> MakeBackup(const BackupOptions& options);

}  // namespace orch::store
