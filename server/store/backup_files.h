// Files of a backup: copied, synced and told by their digests.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::store {

inline constexpr char kBackupSums[] = "SHA256SUMS";
inline constexpr char kBackupDatabase[] = "orchd.db";
// Of the data directory, without which secrets cannot be read and the tokens of running steps are not known.
inline constexpr const char* kBackupKeys[] = {"secret-key", "step-token-key"};

// FAILED_PRECONDITION (BACKUP_FAILED), or RESOURCE_EXHAUSTED (DISK_FULL), with the errno's words.
absl::Status FileError(absl::string_view doing, const std::string& path, int error);

// DATA_LOSS (BACKUP_DAMAGED).
absl::Status BackupDamaged(const std::string& path, absl::string_view why);
// UNAVAILABLE (STOPPING).
absl::Status BackupStopped();

// A time as names of folders have it: they then sort by it.
std::string BackupTime(int64_t wall);

// Makes `to`, which must not be there, with mode 0600, and syncs it. The SHA-256 in hex.
absl::StatusOr<std::string> CopyFile(const std::string& from, const std::string& to);
// Reads all of it and syncs it. The SHA-256 in hex. Asks now and then whether it shall stop: UNAVAILABLE (STOPPING).
absl::StatusOr<std::string> DigestAndSync(
    const std::string& path, const std::function<bool()>& stopping = [] { return false; });
// What names were made or moved in it is durable.
absl::Status SyncFolder(const std::string& path);

// Name → SHA-256 in hex.
using Sums = std::map<std::string, std::string>;
absl::Status WriteSums(const std::string& folder, const Sums& sums);
// DATA_LOSS (BACKUP_DAMAGED) if the file is none.
absl::StatusOr<Sums> ReadSums(const std::string& folder);
// The file's text and back; `path` is for the message.
absl::StatusOr<Sums> ParseSums(absl::string_view text, const std::string& path);
std::string SumsText(const Sums& sums);

}  // namespace orch::store
