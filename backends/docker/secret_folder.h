// What a container gets that nobody else may see: files in memory, which are mounted into it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"

namespace orch::docker {

// Folders of attempts below one of an orchestrator, on a tmpfs. Nobody but their owner (and root) can enter that one;
// what is in an attempt's own may be read by all, since a container's user may be any. Not thread-safe.
class SecretFolder {
 public:
  // Where those of an orchestrator are; nothing is made. Empty if this machine has no tmpfs at a known place.
  static std::string Root(const std::string& instance, const std::string& orchestrator);
  explicit SecretFolder(std::string root) : root_(std::move(root)) {}

  // The folder of an attempt, as `orch-launch enter` reads it. FAILED_PRECONDITION (NO_TMPFS), INTERNAL if it cannot be
  // written. Files of an earlier submission are replaced one by one: its container may run.
  absl::StatusOr<std::string> Write(const std::string& key, const std::vector<SecretValue>& secrets,
                                    const std::vector<std::pair<std::string, std::string>>& plain);
  void Remove(const std::string& key);
  // All but these.
  void RemoveOthers(const std::vector<std::string>& keys);

 private:
  const std::string root_;
};

}  // namespace orch::docker
