// The program of a plug-in, run by the daemon: without a shell, in a session of its own, with pipes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"

namespace orch::plugin {

class Process {
 public:
  struct Options {
    std::string program;                   // absolute
    std::vector<std::string> environment;  // the whole
    std::string pid_file;                  // what it is known by to the next daemon
    std::string log;                       // what it writes; the older half is PATH.1
    int64_t log_bytes = int64_t{4} << 20;
  };
  // On a thread of its own; neither may destroy the process.
  struct Handlers {
    std::function<void(std::string line)> ready;  // its first line on stdout, at most 4 KiB; once at most
    std::function<void(std::string why)> ended;   // once
  };

  // FAILED_PRECONDITION (PLUGIN_START_FAILED) if there is no such program. One that was left over by a daemon that was
  // killed is ended first.
  static absl::StatusOr<std::unique_ptr<Process>> Start(Options options, Handlers handlers);
  // Closes its stdin and sends SIGTERM; what is left of its process group after 3 s is killed.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // At once, with its process group.
  void Kill();

 private:
  Process() = default;
  void Read();
  void TakeOutput(const std::string& bytes);
  void Append(const std::string& bytes);
  std::string HowItEnded() const;

  Options options_;
  Handlers handlers_;
  pid_t pid_ = 0;
  int in_ = -1, out_ = -1, err_ = -1, pidfd_ = -1, log_fd_ = -1;
  int64_t log_size_ = 0;
  std::string first_line_, last_line_;
  bool ready_ = false;
  std::thread thread_;
  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace orch::plugin
