// An attempt as the container that an engine is asked to create: pure, nothing is asked of an engine or a disk here.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/docker/config.h"

namespace orch::docker {

// Labels, by which a daemon knows its own containers.
inline constexpr char kInstanceLabel[] = "io.orchd.instance";
inline constexpr char kOrchestratorLabel[] = "io.orchd.orchestrator";
inline constexpr char kKeyLabel[] = "io.orchd.key";

// Where containers find our own programs; at the end of their PATH.
inline constexpr char kPrograms[] = "/.orch/bin";
// Where they find what nobody else may see.
inline constexpr char kSecrets[] = "/.orch/secrets";
// Where they reach the daemon.
inline constexpr char kSockets[] = "/.orch/daemon";

// What is called so belongs to the attempt of that key.
std::string ContainerName(absl::string_view key);

// Whatever the container gets besides what the attempt's work says.
struct ContainerFacts {
  std::string instance;
  std::string orchestrator;
  std::string image;
  std::string image_path;     // PATH in its image
  std::string user;           // `uid:gid`, of settings that name none
  std::string secret_folder;  // here; empty: there is none
  bool launcher = false;      // ours is in it, and is not the command itself
  Settings settings;          // the step's, over its orchestrator's
  std::vector<Mount> mounts;  // before those of the settings; all of them are there
};

// The body of the engine's `containers/create`, JSON.
std::string ContainerRequest(const AttemptWork& work, const ContainerFacts& facts);

}  // namespace orch::docker
