// orchd.
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
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/heap.h"
#include "server/base/log.h"
#include "server/base/startup_pages.h"
#include "server/base/status.h"
#include "server/config/data_dir.h"
#include "server/config/flags.h"
#include "server/daemon.h"
#include "server/engine/blob_store.h"
#include "server/store/check.h"
#include "server/store/restore.h"

namespace {

constexpr time_t kLookSeconds = 5;

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

int Restore(const std::string& backup, bool salvage, const std::string& data_dir) {
  const auto restored = [&]() -> absl::StatusOr<orch::store::Restored> {
    RETURN_IF_ERROR(orch::config::PrepareDataDir(data_dir));
    const int64_t now = orch::Clock::Real().Now().wall;
    return salvage ? orch::store::RestoreSalvaged(backup, data_dir, now)
                   : orch::store::RestoreBackup(backup, data_dir, now);
  }();
  if (!restored.ok()) {
    std::fprintf(stderr, "orchd: %s\n", std::string(restored.status().message()).c_str());
    return 1;
  }
  if (restored->earlier) {
    std::printf("a restore that had been broken off is finished; %s was not looked at\n", backup.c_str());
  }
  std::printf("%s holds %lld runs, up to event %lld\n", data_dir.c_str(), static_cast<long long>(restored->backup.runs),
              static_cast<long long>(restored->backup.last_sequence));
  if (restored->salvaged.has_value()) {
    std::printf("%lld rows were saved\n", static_cast<long long>(restored->salvaged->rows));
    for (const std::string& fault : restored->salvaged->faults) std::printf("damaged: %s\n", fault.c_str());
    for (const auto& [table, places] : restored->salvaged->damage) {
      std::printf("%s: %lld places cannot be read\n", table.c_str(), static_cast<long long>(places));
    }
    for (const std::string& run : restored->salvaged->dropped_runs) {
      std::printf("run %s had not ended and is left out: what it has done is not known for certain\n", run.c_str());
    }
  }
  if (restored->forgotten_events > 0) {
    std::printf("%lld later events were acknowledged and are not in it\n",
                static_cast<long long>(restored->forgotten_events));
  }
  if (!restored->replaced.empty()) std::printf("what was there is in %s\n", restored->replaced.c_str());
  std::printf("`orchd --check-data` says which outputs are missing\n");
  return 0;
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
  orch::SetUpHeap();
  const orch::config::CommandLine line = orch::config::ReadCommandLine(argc, argv, ORCH_VERSION);
  if (line.fault_points) {
    const char* orders = std::getenv("ORCH_FAULTS");
    const std::string fault = orch::ArmFaults(orders == nullptr ? "" : orders, /*supervisor=*/false);
    if (!fault.empty()) {
      std::fprintf(stderr, "orchd: ORCH_FAULTS: %s\n", fault.c_str());
      return 2;
    }
  }
  if (line.mode == orch::config::CommandLine::Mode::kCheckData) return CheckData(line.config.data_dir);
  if (line.mode == orch::config::CommandLine::Mode::kRestore) return Restore(line.restore, false, line.config.data_dir);
  if (line.mode == orch::config::CommandLine::Mode::kSalvage) return Restore(line.restore, true, line.config.data_dir);
  if (line.mode != orch::config::CommandLine::Mode::kServe) {
    std::fputs(line.message.c_str(), line.exit_code == 0 ? stdout : stderr);
    return line.exit_code;
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
  for (;;) {
    // Files of a certificate say by nothing that they have changed. Without one nothing wakes this thread.
    const timespec look{kLookSeconds, 0};
    const bool tls = (*daemon)->uses_tls();
    const int signal = sigtimedwait(&signals, nullptr, tls ? &look : nullptr);
    if (signal == SIGTERM || signal == SIGINT) break;
    if (tls) (*daemon)->RefreshTls(/*force=*/signal == SIGHUP);
  }
  (*daemon)->Stop();
  return 0;
}
