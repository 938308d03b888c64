#include "server/store/backup_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "server/base/digest.h"
#include "server/base/json.h"
#include "server/base/status.h"

namespace orch::store {
namespace {

constexpr size_t kChunk = 1 << 20;
constexpr size_t kHexDigest = 64;
constexpr size_t kMaxSums = 64 << 10;

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

// Calls `take` with each piece of the file at `path`.
template <typename Take>
absl::Status ReadAll(int fd, const std::string& path, Take take) {
  std::vector<char> buffer(kChunk);
  for (;;) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("read", path, errno);
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(take(absl::string_view(buffer.data(), static_cast<size_t>(n))));
  }
}

}  // namespace

absl::Status FileError(absl::string_view doing, const std::string& path, int error) {
  const std::string text = absl::StrCat("cannot ", doing, " ", path, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) {
    return Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", absl::StrCat(text, "; make room there"));
  }
  return Error(absl::StatusCode::kFailedPrecondition, "BACKUP_FAILED", text);
}

absl::Status BackupDamaged(const std::string& path, absl::string_view why) {
  return Error(absl::StatusCode::kDataLoss, "BACKUP_DAMAGED", absl::StrCat(path, " ", why, ": take another backup"));
}

absl::Status BackupStopped() {
  return Error(absl::StatusCode::kUnavailable, "STOPPING", "the daemon is stopping; no backup was made");
}

std::string BackupTime(int64_t wall) {
  return absl::FormatTime("%Y%m%dT%H%M%E3SZ", absl::FromUnixMicros(wall), absl::UTCTimeZone());
}

absl::StatusOr<std::string> CopyFile(const std::string& from, const std::string& to) {
  const int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return FileError("read", from, errno);
  const auto close_in = absl::MakeCleanup([in] { close(in); });
  const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out < 0) return FileError("make", to, errno);
  const auto close_out = absl::MakeCleanup([out] { close(out); });
  Sha256 hash;
  RETURN_IF_ERROR(ReadAll(in, from, [&](absl::string_view piece) {
    hash.Update(piece);
    return WriteAll(out, piece, to);
  }));
  if (fsync(out) != 0) return FileError("sync", to, errno);
  return Hex(hash.Finish());
}

absl::StatusOr<std::string> DigestAndSync(const std::string& path, const std::function<bool()>& stopping) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("read", path, errno);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  Sha256 hash;
  RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view piece) {
    hash.Update(piece);
    return stopping() ? BackupStopped() : absl::OkStatus();
  }));
  if (fsync(fd) != 0) return FileError("sync", path, errno);
  return Hex(hash.Finish());
}

absl::Status SyncFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  return fsync(fd) == 0 ? absl::OkStatus() : FileError("sync", path, errno);
}

absl::Status WriteSums(const std::string& folder, const Sums& sums) {
  const std::string path = absl::StrCat(folder, "/", kBackupSums);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return FileError("make", path, errno);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  RETURN_IF_ERROR(WriteAll(fd, SumsText(sums), path));
  return fsync(fd) == 0 ? absl::OkStatus() : FileError("sync", path, errno);
}

absl::StatusOr<Sums> ReadSums(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kBackupSums);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return BackupDamaged(path, absl::StrCat("cannot be read (", std::strerror(errno), ")"));
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  std::string text;
  RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view piece) {
    if (text.size() + piece.size() > kMaxSums) return BackupDamaged(path, "is larger than such a file is");
    absl::StrAppend(&text, piece);
    return absl::OkStatus();
  }));
  return ParseSums(text, path);
}

absl::StatusOr<Sums> ParseSums(absl::string_view text, const std::string& path) {
  Sums out;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const absl::string_view digest = line.substr(0, kHexDigest);
    const absl::string_view name = line.size() > kHexDigest + 2 ? line.substr(kHexDigest + 2) : absl::string_view();
    const bool hex = std::all_of(digest.begin(), digest.end(),
                                 [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (!hex || name.empty() || name.find('/') != absl::string_view::npos || line.substr(kHexDigest, 2) != "  " ||
        !out.emplace(name, digest).second) {
      return BackupDamaged(path, absl::StrCat("has a line ", JsonQuote(line.substr(0, 100)), ", which is none of its"));
    }
  }
  return out;
}

std::string SumsText(const Sums& sums) {
  std::string text;
  for (const auto& [name, digest] : sums) absl::StrAppend(&text, digest, "  ", name, "\n");
  return text;
}

}  // namespace orch::store
