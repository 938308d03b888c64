// The command line as a whole: global flags, verbs, help and did-you-mean.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/session.h"
#include "client/cli/verb.h"

namespace orch::cli {

struct CommandLine {
  Globals globals;
  const VerbRow* row = nullptr;
  std::unique_ptr<Verb> verb;  // its variables are set
};

// Reads the arguments. An exit code means that all is done: help was printed (0), or one line about wrong usage (2).
std::optional<int> ReadCommandLine(int argc, char** argv, CommandLine* line);

// All verbs with their flags, and the global flags as the first element (with an empty name), for completion.
std::vector<CommandFacts> DescribeCommands();

}  // namespace orch::cli
