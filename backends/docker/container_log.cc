#include "backends/docker/container_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "server/base/clock.h"

namespace orch::docker {
namespace {

constexpr int64_t kIndexEvery = 100'000;

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

void ContainerLog::Open(const std::string& prefix) {
  Close();
  frames_ = Frames();
  failed_ = false;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(prefix).parent_path(), error);
  for (int i = 0; i < 2; ++i) {
    Stream& stream = streams_[i];
    const std::string path = prefix + (i == 0 ? ".out" : ".err");
    stream.fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    stream.index_fd = open((path + ".idx").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat st {};
    failed_ = failed_ || stream.fd < 0 || stream.index_fd < 0 || fstat(stream.fd, &st) != 0;
    stream.size = stream.skip = st.st_size;
    stream.marked = 0;
  }
}

void ContainerLog::Write(Stream* stream, absl::string_view bytes) {
  const auto known = static_cast<size_t>(std::min<int64_t>(stream->skip, static_cast<int64_t>(bytes.size())));
  stream->skip -= static_cast<int64_t>(known);
  bytes.remove_prefix(known);
  if (bytes.empty() || failed_) return;
  failed_ = !WriteAll(stream->fd, bytes);
  stream->size += static_cast<int64_t>(bytes.size());
  const int64_t now = Clock::Real().Now().wall;
  if (now - stream->marked < kIndexEvery) return;
  stream->marked = now;
  const int64_t pair[2] = {now, stream->size};
  (void)WriteAll(stream->index_fd, absl::string_view(reinterpret_cast<const char*>(pair), sizeof(pair)));
}

bool ContainerLog::Feed(absl::string_view bytes) {
  const bool good =
      frames_.Feed(bytes, [this](bool error, absl::string_view piece) { Write(&streams_[error ? 1 : 0], piece); });
  return good && !failed_;
}

void ContainerLog::Close() {
  for (Stream& stream : streams_) {
    if (stream.index_fd >= 0) {
      const int64_t pair[2] = {Clock::Real().Now().wall, stream.size};
      (void)WriteAll(stream.index_fd, absl::string_view(reinterpret_cast<const char*>(pair), sizeof(pair)));
      close(stream.index_fd);
    }
    if (stream.fd >= 0) close(stream.fd);
    stream.fd = stream.index_fd = -1;
  }
}

}  // namespace orch::docker
