// Small helpers over files, for a program without libraries.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <string_view>

namespace orch::launch {

// Closes a descriptor at the end.
class Closer {
 public:
  explicit Closer(int fd) : fd_(fd) {}
  ~Closer() {
    if (fd_ >= 0) close(fd_);
  }
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;

 private:
  const int fd_;
};

// False: `error` says why.
bool WriteAll(int fd, std::string_view bytes, std::string* error);
bool WriteFile(const std::string& path, std::string_view bytes, mode_t mode, std::string* error);
bool ReadWhole(const std::string& path, std::string* out, std::string* error);

}  // namespace orch::launch
