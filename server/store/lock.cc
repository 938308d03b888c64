#include "server/store/lock.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::store {
namespace {

absl::Status Unusable(const std::string& path, const char* what, int error) {
  return Error(absl::StatusCode::kFailedPrecondition, "DATA_DIR_UNUSABLE",
               absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(error),
                            "; the data directory must exist and belong to the user that runs orchd"));
}

constexpr int kDeadHolderTries = 300;  // of 10 ms

// The process whose number is in the file; true also if it cannot be told.
bool HolderLives(int fd) {
  char text[32] = {};
  if (pread(fd, text, sizeof(text) - 1, 0) <= 0) return true;
  const int pid = atoi(text);
  return pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataDirLock>> DataDirLock::Take(const std::string& data_dir) {
  const std::string path = absl::StrCat(data_dir, "/orchd.lock");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Unusable(path, "open", errno);
  auto lock = absl::WrapUnique(new DataDirLock(fd));
  bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
  // One that was killed while it made a process leaves the lock to that for a moment, until it has its own program.
  for (int tries = 0; !locked && errno == EWOULDBLOCK && tries < kDeadHolderTries && !HolderLives(fd); ++tries) {
    poll(nullptr, 0, 10);
    locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
  }
  if (!locked && flock(fd, LOCK_EX | LOCK_NB) != 0) {  // again: for its errno
    if (errno != EWOULDBLOCK) return Unusable(path, "lock", errno);
    char text[32] = {};
    const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    const std::string pid(absl::StripAsciiWhitespace(absl::string_view(text, n > 0 ? static_cast<size_t>(n) : 0)));
    return Error(absl::StatusCode::kFailedPrecondition, "DATA_DIR_LOCKED",
                 absl::StrCat("the data directory ", data_dir, " is in use by the orchd with pid ",
                              pid.empty() ? "(not yet written)" : pid, "; stop it first (kill ",
                              pid.empty() ? "PID" : pid, ") or give this one another --data-dir"));
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    // A full disk must not keep the daemon from starting: the lock holds without the text.
    if (errno != ENOSPC) return Unusable(path, "write", errno);
  }
  return lock;
}

DataDirLock::~DataDirLock() { close(fd_); }

}  // namespace orch::store
