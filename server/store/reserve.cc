#include "server/store/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/log.h"

namespace orch::store {
namespace {
constexpr int64_t kMeasureEveryMicros = 1'000'000;
}  // namespace

Reserve::Reserve(std::string data_dir, int64_t bytes)
    : data_dir_(std::move(data_dir)), path_(absl::StrCat(data_dir_, "/reserve")), bytes_(bytes) {
  MutexLock lock(&mutex_);
  struct stat st;
  present_ = stat(path_.c_str(), &st) == 0 && static_cast<int64_t>(st.st_blocks) * 512 >= bytes_;
  Measure();
}

int64_t Reserve::FreeBytes() const {
  struct statvfs fs;
  if (statvfs(data_dir_.c_str(), &fs) != 0) return -1;
  return static_cast<int64_t>(fs.f_bavail) * static_cast<int64_t>(fs.f_frsize);
}

void Reserve::Ensure() {
  if (present_ || unsupported_ || bytes_ <= 0) return;
  const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  // Not posix_fallocate, which would write zeros where the file system cannot allocate.
  if (fallocate(fd, 0, 0, bytes_) == 0) {
    present_ = true;
  } else {
    const int error = errno;
    (void)unlink(path_.c_str());  // nothing to do about a failure: it is empty or partly allocated
    if (error == EOPNOTSUPP || error == ENOSYS) {
      unsupported_ = true;
      Log(LogLevel::kWarning, "this file system cannot keep space in reserve: a full disk ends the daemon",
          {{"data_dir", data_dir_}});
    }
  }
  close(fd);
}

void Reserve::Measure() {
  measured_micros_ = Clock::Real().Now().mono;
  int64_t free = FreeBytes();
  // Without a reserve the next one needs its own room first.
  if (!present_ && free >= 3 * bytes_) {
    Ensure();
    free = FreeBytes();
  }
  const bool low = bytes_ > 0 && ((free >= 0 && free < 2 * bytes_) || (!present_ && !unsupported_));
  if (low != low_) {
    Log(low ? LogLevel::kWarning : LogLevel::kInfo,
        low ? "low on space: new runs are refused until some is freed" : "space is back",
        {{"data_dir", data_dir_}, {"free_bytes", free}, {"needed_bytes", 2 * bytes_}});
  }
  low_ = low;
}

bool Reserve::Free() {
  MutexLock lock(&mutex_);
  if (!present_) return false;
  present_ = false;
  low_ = true;
  measured_micros_ = Clock::Real().Now().mono;
  if (unlink(path_.c_str()) != 0) return false;
  Log(LogLevel::kError, "the disk is full: the reserve was given back", {{"data_dir", data_dir_}, {"bytes", bytes_}});
  return true;
}

bool Reserve::LowOnSpace() {
  MutexLock lock(&mutex_);
  if (Clock::Real().Now().mono - measured_micros_ >= kMeasureEveryMicros) Measure();
  return low_;
}

}  // namespace orch::store
