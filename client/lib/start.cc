#include "client/lib/start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/detached_process.h"
#include "server/base/status.h"

namespace orch::client {
namespace {

namespace fs = std::filesystem;

constexpr auto kStartDeadline = std::chrono::seconds(20);
// How long after its own daemon's end a caller looks for the one that won the race for the directory.
constexpr auto kRivalDeadline = std::chrono::seconds(3);

absl::Status StartFailed(absl::string_view what) {
  return Error(absl::StatusCode::kUnavailable, "DAEMON_START_FAILED", what);
}

std::string LastLogLine(const std::string& path, std::streamoff from) {
  std::ifstream in(path, std::ios::binary);
  in.seekg(from);
  std::string line, last;
  while (std::getline(in, line)) {
    if (!line.empty()) last = line;
  }
  return last.size() > 500 ? last.substr(0, 500) : last;
}

absl::StatusOr<pid_t> Launch(const std::vector<std::string>& words, const std::string& log) {
  pid_t pid = 0;
  const int error = DetachedProcess()
                        .Open(0, "/dev/null", O_RDONLY)
                        .Open(1, log, O_WRONLY | O_CREAT | O_APPEND, 0600)
                        .Duplicate(1, 2)
                        .ChangeFolder("/")  // not this one: a daemon must not keep a file system busy
                        .Start(words, nullptr, &pid);
  if (error != 0) return StartFailed(absl::StrCat("cannot start ", words[0], ": ", strerror(error)));
  return pid;
}

// Waits until the directory's daemon listens. `pid` is the one we started.
absl::StatusOr<StartedDaemon> Await(const DiscoveryOptions& options, pid_t pid) {
  using Steady = std::chrono::steady_clock;
  auto deadline = Steady::now() + kStartDeadline;
  bool ended = false;
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  absl::StatusOr<StartedDaemon> result = StartFailed("");
  while (true) {
    absl::StatusOr<Endpoint> endpoint = Discover(options);
    if (endpoint.ok()) {
      StartedDaemon started;
      started.pid = endpoint->pid;
      started.ours = endpoint->pid == pid;
      started.endpoint = *std::move(endpoint);
      result = std::move(started);
      break;
    }
    if (!ended && waitpid(pid, nullptr, WNOHANG) == pid) {
      ended = true;
      deadline = std::min(deadline, Steady::now() + kRivalDeadline);
    }
    if (Steady::now() >= deadline) {
      result = StartFailed(ended ? "it ended at once" : "it did not serve within 20 s");
      break;
    }
    pollfd wait{ended ? -1 : pidfd, POLLIN, 0};
    poll(&wait, 1, 10);
  }
  if (pidfd >= 0) close(pidfd);
  return result;
}

bool Executable(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

}  // namespace

absl::StatusOr<std::string> FindDaemonProgram() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::string beside = (self.parent_path() / "orchd").string();
    if (Executable(beside)) return beside;
  }
  if (const char* path = getenv("PATH"); path != nullptr) {
    for (absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
      std::string candidate = absl::StrCat(folder, "/orchd");
      if (Executable(candidate)) return candidate;
    }
  }
  return Error(absl::StatusCode::kNotFound, "ORCHD_NOT_FOUND",
               "no daemon is running, and there is no `orchd` beside this program or on PATH to start: install it, or "
               "name a running one with --server or ORCH_SERVER");
}

absl::StatusOr<StartedDaemon> StartDaemon(const DiscoveryOptions& options) {
  ASSIGN_OR_RETURN(const std::string dir_text, DataDir(options));
  ASSIGN_OR_RETURN(const std::string program, FindDaemonProgram());
  std::error_code error;
  const fs::path dir = fs::absolute(dir_text, error);
  fs::create_directories(dir.parent_path(), error);
  if (mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return StartFailed(absl::StrCat("cannot make the data directory ", dir.string(), ": ", strerror(errno)));
  }
  const std::string log = (dir / "orchd.log").string();
  const std::vector<std::string> with_default_ports = {program, "--data-dir", dir.string()};
  std::vector<std::string> with_free_ports = with_default_ports;
  with_free_ports.insert(with_free_ports.end(), {"--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"});
  absl::Status failure;
  std::string last_line;
  for (const auto& words : {with_default_ports, with_free_ports}) {
    const std::streamoff log_end = fs::exists(log, error) ? static_cast<std::streamoff>(fs::file_size(log, error)) : 0;
    ASSIGN_OR_RETURN(const pid_t pid, Launch(words, log));
    absl::StatusOr<StartedDaemon> started = Await(options, pid);
    if (started.ok()) return started;
    failure = started.status();
    last_line = LastLogLine(log, log_end);
    if (kill(pid, 0) == 0) break;  // it still runs: starting another cannot help
  }
  return StartFailed(absl::StrCat("started ", program, " on ", dir.string(), " but ", failure.message(),
                                  last_line.empty() ? "" : ": ", last_line, "; see ", log));
}

}  // namespace orch::client
