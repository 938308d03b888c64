// The configuration of an orchestrator of flavor `local_docker`, and the settings of its steps.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/docker/engine_client.h"
#include "server/base/status.h"

namespace orch::docker {

enum class Pull { kMissing, kAlways, kNever };

// `/here:/there` or `/here:/there:ro`; a name without a slash in front is a volume.
struct Mount {
  std::string source;
  std::string target;
  bool read_only = false;
};

// What a step may say otherwise than its orchestrator.
struct Settings {
  std::string network;  // empty: the engine's default
  std::string user;     // empty: the daemon's
  std::vector<Mount> mounts;
  int64_t shm_bytes = 0;  // 0: the engine's default
};

// Who asks a registry for an image.
struct Credentials {
  std::string username;  // empty: the secret is an identity token
  std::string secret;    // the name of the one with the password
};

struct Config {
  EngineAddress address;
  std::string address_text;  // as users know it
  std::string image;         // of steps that name none
  Pull pull = Pull::kMissing;
  Settings settings;
  // True: containers see nothing of the daemon's files; the launcher in them fetches and delivers. `endpoint` is how it
  // reaches the daemon (empty: by a socket that is brought into them), `ca_pem` who signed the daemon's certificate.
  bool launched = false;
  std::string endpoint;
  std::string ca_pem;
  std::string workspace = "/tmp/orch";
  std::map<std::string, Credentials> registries;  // by `host[:port]`; `docker.io` is the public one
  Capacity capacity;                              // what it leaves out is what this machine has
};

// `text` is a JSON object. INVALID_ARGUMENT (CONFIG_INVALID) with all faults.
absl::StatusOr<Config> ReadConfig(const std::string& text);
// A step's, over those of its orchestrator. What is wrong with them is appended to `faults`.
Settings ReadSettings(const Settings& base, absl::string_view text, std::vector<std::string>* faults);

// Their JSON Schemas.
extern const char kConfigSchema[];
extern const char kSettingsSchema[];

}  // namespace orch::docker
