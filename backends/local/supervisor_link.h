// The daemon's end of the connection to the supervisor: starts one if none lives, reconnects, upgrades.
//
// Frames come on a thread of its own; Send may be called from any thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/wire.h"
#include "server/base/mutex.h"

namespace orch::local {

class SupervisorLink {
 public:
  struct Options {
    std::string data_dir;
    std::string program;     // orch-supervisor
    std::string version;     // another version there is asked to become `program`
    std::string version_as;  // for tests: the version that a supervisor we start shall say it has; empty: its own
    int64_t epoch = 0;
    std::string name;  // of this link, among those of one daemon
    bool cgroups = true;
  };
  struct Handlers {
    // Called on the link's thread: once after each connection, with everything the supervisor had before it read
    // anything that Send said is on this connection …
    std::function<void(uint64_t connection, Welcome)> welcomed;
    // … and then for what happens.
    std::function<void(const Started&)> started;
    std::function<void(const Exited&)> exited;
    std::function<void(bool up, std::string why)> health;
  };

  SupervisorLink(Options options, Handlers handlers);
  ~SupervisorLink();

  // Returns when the first Welcome has been handled, or fails after 10 s.
  absl::Status Start();
  void Stop();

  // Returns at once; what the socket does not take now goes when it does. The number of the connection it went to, from
  // 1. 0: there is none now; a later Welcome says what the supervisor
  // knows. Even on a connection a frame may be lost, and then a later Welcome comes too.
  uint64_t Send(const std::string& frame);
  pid_t supervisor_pid() const { return pid_; }

 private:
  void Run();
  bool Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int Connect();
  bool Launch(std::string* why);
  bool Serve(int fd);
  bool Greet(int fd, const Frame& frame);
  bool AskToUpgrade(int fd, const std::string& version);

  const Options options_;
  const Handlers handlers_;
  std::string socket_path_;
  std::atomic<pid_t> pid_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  std::vector<pid_t> launched_;  // of the thread
  int wake_[2] = {-1, -1};       // ends the thread's wait: to stop, or to wait for room in the socket too
  Mutex mutex_;
  CondVar changed_;
  int fd_ ABSL_GUARDED_BY(mutex_) = -1;  // only after the Welcome
  std::string unsent_ ABSL_GUARDED_BY(mutex_);
  uint64_t connection_ ABSL_GUARDED_BY(mutex_) = 0;
  bool welcomed_ ABSL_GUARDED_BY(mutex_) = false;
  std::string trouble_ ABSL_GUARDED_BY(mutex_);
};

// Where the socket is: in the data directory, or where that path is too long, in a 0700 folder under /tmp.
absl::StatusOr<std::string> SupervisorSocketPath(const std::string& data_dir);

}  // namespace orch::local
