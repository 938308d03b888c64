// The command line of orchd.
#pragma once

#include <string>
#include <vector>

#include "server/config/config.h"

namespace orch::config {

struct CommandLine {
  enum class Mode { kServe, kPrint, kCheckData, kRestore, kSalvage, kExit };
  Mode mode = Mode::kServe;
  int exit_code = 0;          // kExit
  std::string message;        // kPrint, kExit: for stdout if the code is 0, else for stderr
  std::string restore;        // kRestore: the backup; kSalvage: the database
  bool fault_points = false;  // ORCH_FAULTS may order ends of this process: for tests alone
  Config config;
};

// Reads flags, the file that --config names, and the defaults. Usage faults are one line and exit code 2; faults of the
// configuration are all listed.
CommandLine ReadCommandLine(int argc, const char* const* argv, const std::string& version);

}  // namespace orch::config
