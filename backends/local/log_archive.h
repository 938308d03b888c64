// A log that was compressed after its attempt had ended: zstd frames of 256 KiB of log each, and a table of them at the
// end (zstd's seekable format, so `zstd -d` reads it too). A read decompresses only the frames that it touches.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace orch::local {

// Thread: one at a time.
class LogArchive {
 public:
  // NOT_FOUND (LOG_MISSING) if there is no such file; INTERNAL (LOG_UNREADABLE) if it is no archive, or damaged.
  static absl::StatusOr<std::unique_ptr<LogArchive>> Open(const std::string& path);
  ~LogArchive();
  LogArchive(const LogArchive&) = delete;
  LogArchive& operator=(const LogArchive&) = delete;

  // Of the log, in bytes.
  int64_t size() const { return frames_.empty() ? 0 : frames_.back().end; }
  // Up to `max_bytes` from `offset`; empty behind the end. INTERNAL (LOG_UNREADABLE).
  absl::StatusOr<std::string> Read(int64_t offset, int64_t max_bytes);

 private:
  struct Frame {
    int64_t at = 0;         // in the file
    int64_t file_size = 0;  // bytes there
    int64_t end = 0;        // in the log
  };

  LogArchive(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status ReadTable();
  absl::Status Load(size_t frame);
  absl::Status Damaged(const char* what) const;

  const std::string path_;
  const int fd_;
  std::vector<Frame> frames_;
  size_t loaded_ = SIZE_MAX;  // which frame is in `bytes_`
  std::string bytes_;
};

// Makes PATH.zst of the log PATH and removes PATH; whoever has it open reads on. A crash leaves the one or both.
// NOT_FOUND (LOG_MISSING) if there is no such log; INTERNAL (LOG_NOT_COMPRESSED), and then PATH is as it was.
// Once `stop` is set it gives up.
absl::Status CompressLog(const std::string& path, const std::atomic<bool>& stop);

}  // namespace orch::local
