// orch-supervisor --data-dir DIR --socket PATH [--lock-fd N] [--no-cgroups] [--idle-exit-ms N]
// For tests: [--version-as V] [--fault-points], with the orders in ORCH_FAULTS, [--list-fault-points]
//
// Started by orchd; not for people. See supervisor.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "backends/local/supervisor/supervisor.h"
#include "server/base/fault.h"

int main(int argc, char** argv) {
  orch::local::SupervisorOptions options;
  options.version = std::string(ORCH_VERSION) + orch::local::kWireLayout;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--version") {
      puts("orch-supervisor " ORCH_VERSION);
      return 0;
    }
    if (flag == "--list-fault-points") {
      for (const std::string& name : orch::FaultPoints()) puts(name.c_str());
      return 0;
    }
    if (flag == "--fault-points") {
      const char* orders = getenv("ORCH_FAULTS");
      const std::string fault = orch::ArmFaults(orders == nullptr ? "" : orders, /*supervisor=*/true);
      if (fault.empty()) continue;
      fprintf(stderr, "orch-supervisor: ORCH_FAULTS: %s\n", fault.c_str());
      return 2;
    }
    if (flag == "--no-cgroups") {
      options.cgroups = false;
      continue;
    }
    ++i;
    if (flag == "--data-dir") {
      options.data_dir = value;
    } else if (flag == "--socket") {
      options.socket_path = value;
    } else if (flag == "--lock-fd") {
      options.lock_fd = atoi(value);
    } else if (flag == "--version-as") {
      options.version = value;
    } else if (flag == "--idle-exit-ms") {
      options.idle_exit_micros = atoll(value) * 1000;
    } else {
      fprintf(stderr, "orch-supervisor: unknown flag %s; orchd starts this program by itself\n", flag.c_str());
      return 2;
    }
  }
  if (const char* state = getenv(orch::local::kStateVariable)) {  // from the image before
    options.state_fd = atoi(state);
    unsetenv(orch::local::kStateVariable);
  }
  if (options.data_dir.empty() || options.socket_path.empty()) {
    fprintf(stderr, "orch-supervisor: --data-dir and --socket are needed; orchd starts this program by itself\n");
    return 2;
  }
  orch::local::Supervisor supervisor(options);
  if (const int code = supervisor.Open()) return code;
  return supervisor.Run();
}
