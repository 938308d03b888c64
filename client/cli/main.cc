// orchctl: the command line of orchd.
#include <signal.h>
#include <stdlib.h>

#include "absl/strings/str_cat.h"
#include "client/cli/command_line.h"

int main(int argc, char** argv) {
  using namespace orch::cli;
  // gRPC would write its own lines about a daemon that is away.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  CommandLine line;
  if (const std::optional<int> done = ReadCommandLine(argc, argv, &line); done.has_value()) return *done;
  Session session(line.globals);
  const absl::StatusOr<int> result = line.verb->Run(session);
  if (result.ok()) return *result;
  const int code = ExitCodeOf(result.status());
  WriteErr(absl::StrCat(session.err().Paint("orchctl:", Color::kRed), " ", OneLine(result.status()), "\n"));
  return code;
}
