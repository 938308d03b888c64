// The task of an attempt that shares no files with the daemon: what its launcher is told to do, and what the daemon
// keeps to serve it. docs/artifacts.md is the contract with launchers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "server/engine/render.h"

namespace orch {

// What one thing that a launcher may fetch is here.
struct TaskFile {
  enum class Kind : uint8_t {
    kFile = 1,
    kFolder = 2,  // an artifact, or what a `uri:` names
    kFanIn = 3,   // a folder of links to artifacts, with an index.json
    kSource = 4,  // a folder that its author may change meanwhile
  };
  Kind kind = Kind::kFile;
  std::string path;
  std::string digest;               // 32 raw bytes; of fan-ins and sources there is none
  std::vector<std::string> ignore;  // kSource
};

struct AttemptTask {
  std::string json;                        // for the launcher, without secrets
  std::map<std::string, TaskFile> inputs;  // by name
  std::optional<TaskFile> source;
  std::vector<std::string> outputs;
  std::string artifact_store;  // of its run; empty: the local folder
};

// Where a launcher puts what it fetches, below the workspace's root.
std::string TaskInputPath(const Workspace& workspace, const std::string& input);
std::string TaskParamsPath(const Workspace& workspace);
std::string TaskSourcePath(const Workspace& workspace);

// `work` is rendered for the workspace's paths; `here` are its inputs as the daemon has them. FAILED_PRECONDITION
// (INPUT_MISSING) for one that is not there.
absl::StatusOr<AttemptTask> MakeTask(const AttemptWork& work, const RunContext& run, const StepSpec& spec,
                                     const std::vector<ReadyInput>& here, const std::string& params_json,
                                     int64_t value_bytes);

// As text for the disk, and back. INTERNAL if it is no such text.
std::string WriteTask(const AttemptTask& task);
absl::StatusOr<AttemptTask> ReadTask(absl::string_view text);

// What a launcher said of the end, put over what its platform said. False if it is no such text.
bool MergeEnd(absl::string_view text, AttemptEnd* end);

}  // namespace orch
