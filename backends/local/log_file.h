// Reads the log of a local attempt: the file, and its index of (time, offset).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"

namespace orch::local {

// `path` need not exist yet: until it does, the log is empty.
std::unique_ptr<LogReader> OpenLogFile(std::string path);

// Of a folder with the logs of a run's attempts: how many bytes they take there, and their end. OK if it is not there.
int64_t LogFolderBytes(const std::string& path);
absl::Status RemoveLogFolder(const std::string& path);

}  // namespace orch::local
