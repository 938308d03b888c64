// Compresses large logs once their attempts have ended, one after the other, on a thread that is there only while there
// is something to do. What is still to be done is kept in a file, so that a restart goes on with it.
//
// Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "server/base/mutex.h"

namespace orch::local {

class LogCompressor {
 public:
  // `list`: the file. Logs of at least `min_bytes` are compressed.
  LogCompressor(std::string list, int64_t min_bytes);
  // Lets go of what is not begun; the list has it.
  ~LogCompressor();
  LogCompressor(const LogCompressor&) = delete;
  LogCompressor& operator=(const LogCompressor&) = delete;

  // Goes on with what an earlier life left.
  void Resume();
  // The log `path` has `bytes` and will not grow any more. The same again does no harm.
  void Add(const std::string& path, int64_t bytes);

 private:
  void Run();
  void StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string list_;
  const int64_t min_bytes_;
  Mutex mutex_;
  std::deque<std::string> queue_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::local
