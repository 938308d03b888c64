#include "backends/local/log_compressor.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/local/log_archive.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch::local {
namespace {
constexpr int kNice = 10;  // steps come first
}  // namespace

LogCompressor::LogCompressor(std::string list, int64_t min_bytes) : list_(std::move(list)), min_bytes_(min_bytes) {}

LogCompressor::~LogCompressor() {
  std::thread thread;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void LogCompressor::Resume() {
  std::ifstream in(list_);
  MutexLock lock(&mutex_);
  for (std::string path; std::getline(in, path);) {
    if (!path.empty()) queue_.push_back(path);
  }
  StartLocked();
}

void LogCompressor::Add(const std::string& path, int64_t bytes) {
  if (bytes < min_bytes_) return;
  MutexLock lock(&mutex_);
  // Not synced: a log that a power loss lets stay as it is can be read all the same.
  const int fd = open(list_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::string line = path + "\n";
  if (fd < 0 || write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    Log(LogLevel::kWarning, "what is to be compressed is not on record", {{"list", list_}, {"why", strerror(errno)}});
  }
  if (fd >= 0) close(fd);
  queue_.push_back(path);
  StartLocked();
}

void LogCompressor::StartLocked() {
  if (running_ || stopping_ || queue_.empty()) return;
  if (thread_.joinable()) thread_.join();  // it has said that it is at its end
  try {
    thread_ = std::thread([this] { Run(); });
    running_ = true;
  } catch (const std::system_error& e) {  // the next one begins with these
    Log(LogLevel::kWarning, "no thread to compress logs", {{"why", e.what()}});
  }
}

void LogCompressor::Run() {
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // of this thread
  for (;;) {
    std::string path;
    {
      MutexLock lock(&mutex_);
      if (queue_.empty() && !stopping_) (void)truncate(list_.c_str(), 0);  // else it is done again, in vain
      if (queue_.empty() || stopping_) {
        running_ = false;
        return;
      }
      path = std::move(queue_.front());
      queue_.pop_front();
    }
    const absl::Status status = CompressLog(path, stopping_);
    if (!status.ok() && !stopping_ && status.code() != absl::StatusCode::kNotFound) {
      Log(LogLevel::kWarning, "a log was not compressed", {{"log", path}, {"why", status.message()}});
    }
  }
}

}  // namespace orch::local
