#include "backends/local/log_pair.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace orch::local {
namespace {

constexpr int64_t kIndexEvery = 100'000;
constexpr off_t kMark = 2 * sizeof(int64_t);
constexpr const char* kEndings[] = {".out", ".err"};

bool WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

void LogPair::Fail(const std::string& path, int error) {
  if (fault_.empty()) fault_ = absl::StrCat("cannot write ", path, ": ", strerror(error));
}

void LogPair::Open(const std::string& prefix) {
  Close();
  fault_.clear();
  prefix_ = prefix;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(prefix).parent_path(), error);
  for (int i = 0; i < 2; ++i) {
    File& file = files_[i];
    const std::string path = prefix + kEndings[i];
    file.fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file.fd < 0) Fail(path, errno);
    file.index_fd = ::open((path + ".idx").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file.index_fd < 0) Fail(path + ".idx", errno);
    struct stat st {};
    if (file.fd >= 0 && fstat(file.fd, &st) != 0) Fail(path, errno);
    file.size = st.st_size;
    file.marked = file.last = 0;
  }
}

void LogPair::Mark(File* file, int64_t wall) {
  file->marked = wall;
  const int64_t pair[2] = {wall, file->size};
  (void)WriteAll(file->index_fd, absl::string_view(reinterpret_cast<const char*>(pair), sizeof(pair)));
}

void LogPair::Write(bool error, absl::string_view bytes, int64_t wall) {
  if (bytes.empty() || !fault_.empty()) return;
  File& file = files_[error];
  if (!WriteAll(file.fd, bytes)) return Fail(prefix_ + kEndings[error], errno);
  file.size += static_cast<int64_t>(bytes.size());
  file.last = wall;
  if (wall - file.marked >= kIndexEvery) Mark(&file, wall);
}

void LogPair::Truncate(int64_t out_bytes, int64_t err_bytes) {
  const int64_t wanted[2] = {out_bytes, err_bytes};
  for (int i = 0; i < 2; ++i) {
    File& file = files_[i];
    if (file.fd < 0 || file.size <= wanted[i]) continue;
    if (ftruncate(file.fd, wanted[i]) != 0) return Fail(prefix_ + kEndings[i], errno);
    file.size = wanted[i];
    struct stat st {};  // what the index says of bytes beyond goes, too: it is in their order
    off_t marks = file.index_fd >= 0 && fstat(file.index_fd, &st) == 0 ? st.st_size / kMark : 0;
    for (int64_t pair[2]; marks > 0; --marks) {
      if (pread(file.index_fd, pair, kMark, (marks - 1) * kMark) == kMark && pair[1] <= wanted[i]) break;
    }
    if (file.index_fd >= 0) (void)!ftruncate(file.index_fd, marks * kMark);
  }
}

void LogPair::Close() {
  for (File& file : files_) {
    if (file.index_fd >= 0) {
      if (file.last > 0) Mark(&file, file.last);
      close(file.index_fd);
    }
    if (file.fd >= 0) close(file.fd);
    file.fd = file.index_fd = -1;
  }
}

}  // namespace orch::local
