// orchd.
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/synchronization/mutex.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/startup_pages.h"
#include "server/base/status.h"
#include "server/config/flags.h"
#include "server/daemon.h"

namespace {

// Blocked in every thread; main takes them one by one.
sigset_t BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return set;
}

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Debian builds abseil with its deadlock detector on: a global lock at every lock that gRPC takes.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  mallopt(M_ARENA_MAX, 2);  // an arena per thread would cost most of the memory of an idle daemon
  const orch::config::CommandLine line = orch::config::ReadCommandLine(argc, argv, ORCH_VERSION);
  if (line.mode != orch::config::CommandLine::Mode::kServe) {
    std::fputs(line.message.c_str(), line.exit_code == 0 ? stdout : stderr);
    return line.exit_code;
  }
  if (line.fault_points) {
    const char* orders = std::getenv("ORCH_FAULTS");
    const std::string fault = orch::ArmFaults(orders == nullptr ? "" : orders, /*supervisor=*/false);
    if (!fault.empty()) {
      std::fprintf(stderr, "orchd: ORCH_FAULTS: %s\n", fault.c_str());
      return 2;
    }
  }
  const sigset_t signals = BlockSignals();
  RaiseFileLimit();
  orch::SetLogLevel(line.config.log_level);
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
  auto daemon = orch::Daemon::Start(line.config, self);
  if (!daemon.ok()) {
    std::fprintf(stderr, "orchd: %s\n", std::string(daemon.status().message()).c_str());
    return 1;
  }
  orch::ReleaseStartupPages();
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) {
  }
  (*daemon)->Stop();
  return 0;
}
