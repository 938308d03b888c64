// What an attempt has on this machine besides its container: folders, what nobody else may see, and the word of which
// engine was asked to start it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/docker/config.h"
#include "backends/docker/container.h"
#include "backends/docker/container_life.h"
#include "backends/docker/secret_folder.h"

namespace orch::docker {

// Of all attempts of one orchestrator. Not thread-safe.
class AttemptPlaces {
 public:
  // Both outlive it.
  AttemptPlaces(const BackendContext* context, const Config* config);

  // Any thread.
  std::string Folder(absl::string_view key) const;
  // Without its ending; of an AttemptName or a LogAddress. Any thread.
  template <typename Name>
  std::string LogPrefix(const Name& name) const {
    return absl::StrCat(LogFolder(name.run_id), "/",
                        name.log.empty() ? absl::StrCat(name.step_index, ".", name.attempt) : name.log);
  }
  std::string LogFolder(const std::string& run_id) const { return absl::StrCat(context_->data_dir, "/logs/", run_id); }

  // Makes its folders, and takes out of `work` what others may not see: an engine shows a container's variables to all
  // who may ask it. FAILED_PRECONDITION (NO_LAUNCHER, NO_TMPFS), INTERNAL.
  absl::Status Make(AttemptWork* work);
  // The body of the engine's `containers/create`, after Make. `path`: PATH in the image.
  std::string Request(const AttemptWork& work, const std::string& image, const std::string& path) const;

  // Before the engine is asked to start it, which it must not be if this fails: a later life of the daemon would start
  // it again. `engine`: what is known of the engine's process, perhaps nothing. INTERNAL (START_NOT_NOTED).
  absl::Status AboutToStart(absl::string_view key, const std::string& engine) const;
  // What an earlier life of the daemon has left of that.
  Asked AskedBefore(absl::string_view key, const std::string& engine) const;

  void Remove(const std::string& key);
  // Secrets of all but these.
  void RemoveSecretsOfOthers(const std::vector<std::string>& keys) { secrets_.RemoveOthers(keys); }

 private:
  std::string Launcher() const;
  std::string StartFile(absl::string_view key) const;
  std::string LauncherRequest(AttemptWork work, ContainerFacts facts) const;

  const BackendContext* const context_;
  const Config* const config_;
  const bool has_launcher_;
  SecretFolder secrets_;
  std::map<std::string, std::string, std::less<>> secret_folders_;  // by key; of those that have one
};

}  // namespace orch::docker
