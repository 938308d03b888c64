// orchd.
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/base/fault.h"
#include "server/base/log.h"
#include "server/base/startup_pages.h"
#include "server/base/status.h"
#include "server/config/flags.h"
#include "server/daemon.h"
#include "server/engine/blob_store.h"
#include "server/store/check.h"

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

// Everything that can be known of the data directory without changing it. 0: all is whole.
int CheckData(const std::string& data_dir) {
  const auto checked = orch::store::CheckDatabase(data_dir);
  if (!checked.ok()) {
    std::fprintf(stderr, "orchd: %s\n", std::string(checked.status().message()).c_str());
    return 1;
  }
  std::vector<std::string> faults = checked->faults;
  for (const orch::BlobRow& blob : checked->blob_files) {
    const absl::Status status = orch::BlobStore::CheckFile(data_dir, blob);
    if (!status.ok()) faults.emplace_back(status.message());
  }
  for (const std::string& fault : faults) std::fprintf(stderr, "orchd: %s\n", fault.c_str());
  std::printf("%zu faults; looked at %lld runs, %lld pipelines, %lld outputs in the database and %zu beside it\n",
              faults.size(), static_cast<long long>(checked->runs), static_cast<long long>(checked->pipelines),
              static_cast<long long>(checked->inline_blobs), checked->blob_files.size());
  return faults.empty() ? 0 : 1;
}

// What nobody catches: no thread or no memory to be had. Without unwinding, so that nothing more is written.
[[noreturn]] void EndOnException() {
  std::string what = "an error that should not be";
  if (const std::exception_ptr current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const std::system_error& e) {
      what = std::string(e.what()) + "; see the limits on processes and threads (ulimit -u, TasksMax)";
    } catch (const std::bad_alloc&) {
      what = "no memory to be had";
    } catch (const std::exception& e) {
      what = e.what();
    } catch (...) {
      what = "an exception of an unknown kind";
    }
  }
  std::fprintf(stderr, "orchd: ended by %s\n", what.c_str());
  _exit(70);
}

}  // namespace

int main(int argc, char** argv) {
  // Debian builds abseil with its deadlock detector on: a global lock at every lock that gRPC takes.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::set_terminate(&EndOnException);
  mallopt(M_ARENA_MAX, 2);  // an arena per thread would cost most of the memory of an idle daemon
  const orch::config::CommandLine line = orch::config::ReadCommandLine(argc, argv, ORCH_VERSION);
  if (line.mode == orch::config::CommandLine::Mode::kCheckData) return CheckData(line.config.data_dir);
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
