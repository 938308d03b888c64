#include "backends/local/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/log_archive.h"
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
    ASSIGN_OR_RETURN(const bool there, Open());
    if (!there || max_bytes <= 0) return std::string();
    if (archive_ != nullptr) return archive_->Read(offset, max_bytes);
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
    ASSIGN_OR_RETURN(const bool there, Open());
    if (!there) return 0;
    if (archive_ != nullptr) return archive_->size();
    struct stat st {};
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
  // The log itself while it grows and for some time after, then what it was compressed to. False: neither is there yet.
  absl::StatusOr<bool> Open() {
    if (fd_ >= 0 || archive_ != nullptr) return true;
    fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ >= 0) return true;
    auto archive = LogArchive::Open(path_ + ".zst");
    if (archive.status().code() == absl::StatusCode::kNotFound) return false;
    if (!archive.ok()) return archive.status();
    archive_ = *std::move(archive);
    return true;
  }
  absl::Status Failed() const {
    return Error(absl::StatusCode::kInternal, "LOG_UNREADABLE",
                 absl::StrCat("cannot read ", path_, ": ", strerror(errno)));
  }

  const std::string path_;
  int fd_ = -1;
  std::unique_ptr<LogArchive> archive_;
  int index_fd_ = -1;
};

}  // namespace

std::unique_ptr<LogReader> OpenLogFile(std::string path) { return std::make_unique<LogFile>(std::move(path)); }

int64_t LogFolderBytes(const std::string& path) {
  int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    const auto size = it->file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

absl::Status RemoveLogFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) return absl::OkStatus();
  return Error(absl::StatusCode::kInternal, "LOG_NOT_REMOVED",
               absl::StrCat("the logs in ", path, " cannot be removed: ", error.message()));
}

}  // namespace orch::local
