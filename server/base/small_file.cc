#include "server/base/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace orch {
namespace {

absl::Status Unusable(const std::string& file, absl::string_view why) {
  return Error(absl::StatusCode::kInvalidArgument, "FILE_UNUSABLE", absl::StrCat(file, " ", why));
}

absl::StatusOr<std::string> Read(const std::string& file, int64_t max_bytes, bool secret) {
  // Without O_NONBLOCK a pipe of that name would hold up the start.
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Unusable(file, absl::StrCat("cannot be read: ", std::strerror(errno)));
  const auto close_fd = absl::MakeCleanup([fd] { ::close(fd); });
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > max_bytes) {
    const bool mebi = max_bytes >= 1 << 20;
    return Unusable(file,
                    absl::StrCat("is no file of at most ", max_bytes >> (mebi ? 20 : 10), mebi ? " MiB" : " KiB"));
  }
  if (secret && info.st_uid != ::geteuid() && info.st_uid != 0) {
    return Unusable(file, absl::StrCat("belongs to another user (uid ", info.st_uid,
                                       "), who can change it; it has to be ours or root's: chown it"));
  }
  const mode_t too_open = info.st_mode & (info.st_uid == 0 ? 0037 : 0077);
  if (secret && too_open != 0) {
    return Unusable(file, absl::StrFormat("has mode %04o, so others can read it: chmod 600 it (640 will do for root's)",
                                          info.st_mode & 07777));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::read(fd, text.data() + have, text.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<size_t>(n);
  }
  text.resize(have);
  return text;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& file, int64_t max_bytes) {
  return Read(file, max_bytes, /*secret=*/false);
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& file, int64_t max_bytes) {
  return Read(file, max_bytes, /*secret=*/true);
}

}  // namespace orch
