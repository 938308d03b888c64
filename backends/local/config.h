// The configuration of an orchestrator of flavor `local`: what it offers.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"

namespace orch::local {

struct Config {
  Capacity capacity;
  std::vector<std::string> devices;  // of its GPUs, as CUDA_VISIBLE_DEVICES names them; as many as capacity.gpu
  bool cgroups = true;
  // True: steps see nothing of the daemon's files; a launcher fetches what they read and delivers what they make.
  bool launched = false;
  bool handed = false;  // and its steps reach nothing but the artifact store
};

// `text` is a JSON object. What it leaves out is what the machine has: the CPUs of the affinity mask, 90 % of the
// memory, the GPUs found. INVALID_ARGUMENT (CONFIG_INVALID) with all faults.
absl::StatusOr<Config> ReadConfig(const std::string& text);

// Its JSON Schema.
extern const char kConfigSchema[];

}  // namespace orch::local
