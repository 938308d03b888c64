// The table of verbs. A verb is one file (or shares one with its near kin) and one row in verbs.cc.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/flags.h"
#include "client/cli/session.h"

namespace orch::cli {

class Verb {
 public:
  virtual ~Verb() = default;
  virtual void Define(Flags& flags) = 0;
  // The exit code, or the error that main() prints in one line and turns into one.
  virtual absl::StatusOr<int> Run(Session& session) = 0;
};

struct VerbRow {
  const char* name;
  const char* summary;  // one line, for the list
  const char* details;  // what --help says on top of it; may be empty
  const char* example;  // one or more lines
  std::unique_ptr<Verb> (*make)();
};

const std::vector<VerbRow>& AllVerbs();

}  // namespace orch::cli
