// What the effects need of a run; made once at submission or restore, never changed.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

struct RunContext {
  RunHeader header;
  int generation = 1;  // of the run, when it was made: what was asked in an earlier one was about another graph
  std::shared_ptr<const Graph> graph;
  std::map<std::string, std::string> parameters;  // name → compact JSON
  // The folder steps run in: the submitter's, if it is on this machine and exists; else empty.
  std::string source_dir;
};

// Looks at the file system; `header.key` may still be missing.
absl::StatusOr<std::shared_ptr<RunContext>> MakeRunContext(RunHeader header, std::shared_ptr<const Graph> graph,
                                                           int generation = 1);

}  // namespace orch
