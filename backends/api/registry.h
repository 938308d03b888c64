// The list of flavors: every row of the table in docs/flavors, with what is in this build.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/api/backend.h"

namespace orch {

// What a backend may use of the daemon.
struct BackendContext {
  std::string orchestrator;  // its registered name
  std::string config_json;   // validated by the flavor's schema; "{}" if empty
  std::string data_dir;      // absolute
  std::string binary_dir;    // where orchd's own programs are
  std::string instance;      // the data directory's UUID
  int64_t epoch = 0;
  int64_t log_compress_bytes = int64_t{1} << 20;  // logs of this size and above are compressed after the end
};

struct FlavorInfo {
  std::string name;
  std::string description;
  std::vector<std::string> units;     // "step", "run"
  std::string needs;                  // for people
  std::vector<std::string> native;    // what the platform does
  std::vector<std::string> supplied;  // what the daemon does instead
  std::string config_schema;          // JSON Schema; empty if not in this build
  std::string settings_schema;
  bool listed = true;  // false: hidden unless enabled (`fake`)
  // Empty if not in this build. Checks the configuration (all faults in one InvalidInput), makes the backend.
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(const BackendContext&)> make;
  // Empty: ready. Otherwise what is missing on this machine.
  std::function<std::string()> missing;
};

// All flavors in the order of the documentation. One line each in registry.cc.
const std::vector<FlavorInfo>& Flavors();
// nullptr if there is none of that name.
const FlavorInfo* FindFlavor(absl::string_view name);

}  // namespace orch
