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
  std::string step_sockets;  // a folder with the socket `http.sock`, of calls that need a token; empty: none
  int64_t epoch = 0;
  // The value of a secret by its name, for what a configuration refers to. Any thread; reads the database.
  std::function<absl::StatusOr<std::string>(const std::string& name)> read_secret;
  int64_t log_compress_bytes = int64_t{1} << 20;  // logs of this size and above are compressed after the end
  bool registered = false;  // it served before: a platform that is away now keeps it out of service no longer than that
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
  std::string plugin;  // its program or address; empty: built in
  std::string plugin_version;
  // Empty if not in this build. Checks the configuration (all faults in one InvalidInput), makes the backend.
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(const BackendContext&)> make;
  // Empty: ready. Otherwise what is missing on this machine.
  std::function<std::string()> missing;
};

// All built-in flavors in the order of the documentation. One line each in registry.cc.
const std::vector<FlavorInfo>& Flavors();
// nullptr if there is none of that name.
const FlavorInfo* FindFlavor(absl::string_view name);

// Where a plug-in is: a program on this machine, or an address that is reached with mTLS.
struct PluginSource {
  std::string program;  // absolute path; empty: `address`
  std::string address;  // HOST:PORT
  std::string ca_file;  // of an address: PEM files on this machine
  std::string certificate_file;
  std::string key_file;
};

// What plug-ins bring to the registry. Any thread; calls may take as long as a plug-in may take to start.
class PluginHost {
 public:
  virtual ~PluginHost() = default;
  // Asks the plug-in what it is; the text is stored and given to Flavor(). FAILED_PRECONDITION
  // (PLUGIN_START_FAILED, PLUGIN_UNUSABLE, PLUGIN_INCOMPATIBLE), INVALID_ARGUMENT (FLAVOR_INVALID), each with the
  // plug-in's own words.
  virtual absl::StatusOr<std::string> Describe(const PluginSource& source) = 0;
  // The flavor that such a description is of. `name` empty: the plug-in's own. No I/O.
  virtual absl::StatusOr<FlavorInfo> Flavor(const std::string& name, const PluginSource& source,
                                            const std::string& description) = 0;
};

}  // namespace orch
