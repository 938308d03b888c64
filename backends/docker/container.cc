#include "backends/docker/container.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace orch::docker {
namespace {

using nlohmann::json;

json MountOf(const Mount& mount) {
  const bool folder = absl::StartsWith(mount.source, "/");
  return {{"Type", folder ? "bind" : "volume"},
          {"Source", mount.source},
          {"Target", mount.target},
          {"ReadOnly", mount.read_only}};
}

}  // namespace

std::string ContainerName(absl::string_view key) { return absl::StrCat("orch-", key); }

std::string ContainerRequest(const AttemptWork& work, const ContainerFacts& facts) {
  json mounts = json::array();
  for (const Mount& mount : facts.mounts) mounts.push_back(MountOf(mount));
  json command = work.command;
  const bool secret = !facts.secret_folder.empty();
  const bool stay = facts.launcher && work.resources.memory > 0;
  if (secret) mounts.push_back(MountOf({facts.secret_folder, kSecrets, true}));
  if (secret || stay) {
    command = json::array({absl::StrCat(kPrograms, "/orch-launch"), "enter"});
    if (stay) command.push_back("--stay");
    command.push_back(secret ? kSecrets : "-");
    for (const std::string& word : work.command) command.push_back(word);
  }
  for (const Mount& mount : facts.settings.mounts) mounts.push_back(MountOf(mount));
  // Never started by the engine itself, and kept after its end, until that is committed.
  json host = {{"AutoRemove", false}, {"RestartPolicy", {{"Name", "no"}}},
               {"Init", true},        {"LogConfig", {{"Type", "json-file"}}},
               {"Mounts", mounts},    {"NanoCpus", work.resources.cpu_millis * 1'000'000}};
  if (!facts.settings.network.empty()) host["NetworkMode"] = facts.settings.network;
  if (facts.settings.shm_bytes > 0) host["ShmSize"] = facts.settings.shm_bytes;
  if (work.resources.memory > 0) host["Memory"] = host["MemorySwap"] = work.resources.memory;
  if (work.resources.gpu > 0) {
    host["DeviceRequests"] = {{{"Count", work.resources.gpu}, {"Capabilities", {{"gpu"}}}}};
  }
  json environment = json::array();
  bool has_path = false;  // the step's own
  for (const auto& [name, value] : work.env) {
    environment.push_back(absl::StrCat(name, "=", value));
    has_path = has_path || name == "PATH";
  }
  if (!has_path) environment.push_back(absl::StrCat("PATH=", facts.image_path, ":", kPrograms));
  const json request = {{"Image", facts.image},
                        {"Entrypoint", command},
                        {"Env", environment},
                        {"WorkingDir", work.working_dir},
                        {"User", facts.settings.user.empty() ? facts.user : facts.settings.user},
                        {"Labels",
                         {{kInstanceLabel, facts.instance},
                          {kOrchestratorLabel, facts.orchestrator},
                          {kKeyLabel, work.name.key},
                          {"io.orchd.run", work.name.run_name},
                          {"io.orchd.run_id", work.name.run_id},
                          {"io.orchd.step", work.name.step},
                          {"io.orchd.attempt", absl::StrCat(work.name.attempt)}}},
                        {"StopSignal", "SIGTERM"},
                        {"HostConfig", host}};
  return request.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace orch::docker
