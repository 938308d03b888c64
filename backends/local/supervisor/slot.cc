#include "backends/local/supervisor/slot.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace orch::local {
namespace {

bool RemoveContentsAt(int dir_fd) {
  DIR* dir = fdopendir(dir_fd);  // takes the descriptor over
  if (dir == nullptr) {
    close(dir_fd);
    return false;
  }
  bool clean = true;
  while (const dirent* entry = readdir(dir)) {
    const char* name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    if (unlinkat(dirfd(dir), name, 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) {
      clean = false;
      continue;
    }
    int inner = openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0 && errno == EACCES && fchmodat(dirfd(dir), name, 0700, 0) == 0) {
      inner = openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (inner < 0) {
      clean = false;
      continue;
    }
    if (fchmod(inner, 0700) != 0) clean = false;
    clean = RemoveContentsAt(inner) && clean;
    if (unlinkat(dirfd(dir), name, AT_REMOVEDIR) != 0) clean = false;
  }
  closedir(dir);
  return clean;
}

}  // namespace

bool RemoveContents(const std::string& dir) {
  const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT;
  return RemoveContentsAt(fd);
}

int MakeFolders(const std::string& dir) {
  for (size_t at = 1; at != std::string::npos;) {
    at = dir.find('/', at);
    const std::string part = dir.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return errno;
    if (at != std::string::npos) ++at;
  }
  return 0;
}

Slot::~Slot() {
  for (Stream& stream : streams_) Drop(stream);
}

void Slot::Drop(Stream& stream) {
  if (stream.fd >= 0) close(stream.fd);
  if (stream.index_fd >= 0) close(stream.index_fd);
  stream = {};
}

int Slot::Prepare() {
  if (!made_) {
    for (const char* name : {"/scratch", "/output"}) {
      if (const int error = MakeFolders(dir_ + name)) return error;
      if (!RemoveContents(dir_ + name)) return EBUSY;
    }
    made_ = true;
  }
  const char* names[] = {"/out", "/err"};
  for (int s = 0; s < 2; ++s) {
    Stream& stream = streams_[s];
    if (stream.named) Drop(stream);
    if (stream.fd >= 0) continue;
    // Above 2, so that the child can move it; truncated, since a file left by an older supervisor may have content.
    const int fd = open((dir_ + names[s]).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    stream.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    if (stream.fd < 0) return errno;
  }
  return 0;
}

void Slot::Reopen(const std::string& log_prefix) {
  made_ = true;
  const char* names[] = {"/out", "/err"};
  const char* suffixes[] = {".out", ".err"};
  for (int s = 0; s < 2; ++s) {
    Stream& stream = streams_[s];
    stream.fd = open((log_prefix + suffixes[s]).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    stream.named = stream.fd >= 0;
    if (!stream.named) stream.fd = open((dir_ + names[s]).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    struct stat st {};
    if (stream.named && fstat(stream.fd, &st) == 0) stream.size = st.st_size;
  }
}

void Slot::SampleStream(Stream& stream, const char* name, const char* suffix, const std::string& log_prefix,
                        int64_t wall) {
  struct stat st {};
  if (stream.fd < 0 || fstat(stream.fd, &st) != 0 || st.st_size == stream.size) return;
  const std::string path = log_prefix + suffix;
  if (!stream.named) {
    if (rename((dir_ + name).c_str(), path.c_str()) != 0) {
      if (errno != ENOENT || MakeFolders(path.substr(0, path.rfind('/'))) != 0 ||
          rename((dir_ + name).c_str(), path.c_str()) != 0) {
        return;
      }
    }
    stream.named = true;
  }
  stream.size = st.st_size;
  if (stream.index_fd < 0) {
    stream.index_fd = open((path + ".idx").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }
  const int64_t entry[2] = {wall, stream.size};
  if (stream.index_fd >= 0 && write(stream.index_fd, entry, sizeof(entry)) < 0) {
    close(stream.index_fd);  // the log itself is what counts
    stream.index_fd = -1;
  }
}

void Slot::Sample(const std::string& log_prefix, int64_t wall) {
  SampleStream(streams_[0], "/out", ".out", log_prefix, wall);
  SampleStream(streams_[1], "/err", ".err", log_prefix, wall);
}

bool Slot::Clean() {
  for (Stream& stream : streams_) {
    if (stream.named) {
      Drop(stream);
    } else {
      stream.size = 0;
    }
  }
  const bool scratch = RemoveContents(dir_ + "/scratch");
  return RemoveContents(dir_ + "/output") && scratch;
}

}  // namespace orch::local
