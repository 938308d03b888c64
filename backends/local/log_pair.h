// The two files of an attempt's log, and an index of times beside each, on the writing side: what OpenLogFile reads.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace orch::local {

// Not thread-safe.
class LogPair {
 public:
  LogPair() = default;
  ~LogPair() { Close(); }
  LogPair(const LogPair&) = delete;
  LogPair& operator=(const LogPair&) = delete;

  // The files are PREFIX.out and PREFIX.err, which go on where they end; folders are made.
  void Open(const std::string& prefix);
  // `wall`: when the bytes were written, microseconds UTC. Nothing once there was a fault.
  void Write(bool error, absl::string_view bytes, int64_t wall);
  // They end there again, both at most where they do.
  void Truncate(int64_t out_bytes, int64_t err_bytes);
  void Close();

  bool open() const { return files_[0].fd >= 0; }
  int64_t bytes(bool error) const { return files_[error].size; }
  int64_t total() const { return files_[0].size + files_[1].size; }
  // Why it cannot be written; empty: it can.
  const std::string& fault() const { return fault_; }

 private:
  struct File {
    int fd = -1;
    int index_fd = -1;
    int64_t size = 0;
    int64_t marked = 0;  // when the index got its last entry
    int64_t last = 0;    // when the last bytes were written
  };
  void Fail(const std::string& path, int error);
  void Mark(File* file, int64_t wall);

  std::string prefix_;
  File files_[2];
  std::string fault_;
};

}  // namespace orch::local
