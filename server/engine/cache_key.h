// The key under which a step's outputs are found again, and the parts it is made of.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/inputs.h"
#include "server/engine/render.h"

namespace orch {

struct CacheKey {
  std::string key;         // 32 raw bytes; empty: the step cannot be cached
  std::string parts_json;  // one object, so that `why` can say which part changed
};

// Reads the source files that go into the key. Any thread.
absl::StatusOr<CacheKey> CacheKeyOf(const RunContext& run, StepIx ix, const std::vector<ReadyInput>& inputs,
                                    FileDigests* files);

// A part of the key that is not what it was: `inputs.table`, `command[2]`, `params.folds`, `files.train.py`, `source`.
struct PartChange {
  std::string part;
  std::string before;  // empty: it was not there
  std::string after;   // empty: it is not there
};
// Both as CacheKey::parts_json. Pure.
std::vector<PartChange> ChangedParts(const std::string& before, const std::string& after);

}  // namespace orch
