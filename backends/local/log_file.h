// Reads the log of a local attempt: the file, and its index of (time, offset).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"

namespace orch::local {

// `path` need not exist yet: until it does, the log is empty.
std::unique_ptr<LogReader> OpenLogFile(std::string path);

}  // namespace orch::local
