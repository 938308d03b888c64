#include "backends/local/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace orch::local {
namespace {

class LogFile : public LogReader {
 public:
  explicit LogFile(std::string path) : path_(std::move(path)) {}
  ~LogFile() override {
    if (fd_ >= 0) close(fd_);
    if (index_fd_ >= 0) close(index_fd_);
  }

  absl::StatusOr<std::string> Read(int64_t offset, int64_t max_bytes) override {
    if (!Open() || max_bytes <= 0) return std::string();
    ASSIGN_OR_RETURN(const int64_t size, Size());
    std::string out(static_cast<size_t>(std::clamp<int64_t>(size - offset, 0, max_bytes)), '\0');
    size_t at = 0;
    while (at < out.size()) {
      const ssize_t n = pread(fd_, out.data() + at, out.size() - at, offset + static_cast<int64_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed();
      if (n == 0) break;
      at += static_cast<size_t>(n);
    }
    out.resize(at);
    return out;
  }

  absl::StatusOr<int64_t> Size() override {
    struct stat st {};
    if (!Open()) return 0;
    if (fstat(fd_, &st) != 0) return Failed();
    return static_cast<int64_t>(st.st_size);
  }

  // The index has pairs (time, size then): the byte was written by the first time whose size is above its offset.
  int64_t TimeOf(int64_t offset) override {
    if (index_fd_ < 0) index_fd_ = open((path_ + ".idx").c_str(), O_RDONLY | O_CLOEXEC);
    struct stat st {};
    if (index_fd_ < 0 || fstat(index_fd_, &st) != 0) return 0;
    int64_t low = 0;
    int64_t high = st.st_size / 16;
    int64_t found = 0;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      int64_t pair[2] = {};
      if (pread(index_fd_, pair, sizeof(pair), middle * 16) != sizeof(pair)) return 0;
      if (pair[1] > offset) {
        found = pair[0];
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return found;
  }

 private:
  bool Open() {
    if (fd_ < 0) fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    return fd_ >= 0;
  }
  absl::Status Failed() const {
    return Error(absl::StatusCode::kInternal, "LOG_UNREADABLE",
                 absl::StrCat("cannot read ", path_, ": ", strerror(errno)));
  }

  const std::string path_;
  int fd_ = -1;
  int index_fd_ = -1;
};

}  // namespace

std::unique_ptr<LogReader> OpenLogFile(std::string path) { return std::make_unique<LogFile>(std::move(path)); }

}  // namespace orch::local
