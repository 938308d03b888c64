// The key under which a step's outputs are found again, and the parts it is made of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/inputs.h"
#include "server/engine/render.h"
#include "server/engine/sources.h"

namespace orch {

struct CacheKey {
  std::string key;         // 32 raw bytes; empty: the step cannot be cached
  std::string parts_json;  // one object, so that `why` can say which part changed
};

// The keys of a step's instances: what they have in common is made once.
class CacheRecipe {
 public:
  // All outlive it. Any thread, one at a time.
  CacheRecipe(const RunContext& run, uint32_t t, const Sources* sources);

  // False if no instance can be cached.
  bool cacheable() const { return cacheable_; }
  // Reads the source files that go into the key.
  absl::StatusOr<CacheKey> Make(StepIx ix, const std::vector<ReadyInput>& inputs) const;

 private:
  using Pieces = std::vector<TemplatePiece>;

  const RunContext& run_;
  const StepSpec& step_;
  const Sources* const sources_;
  bool cacheable_ = false;
  absl::Status status_;  // of its templates
  std::vector<Pieces> command_;
  std::map<std::string, Pieces> env_;
  Pieces working_dir_;
  std::string outputs_to_secrets_;  // that stretch of the parts
};

// Of one step.
absl::StatusOr<CacheKey> CacheKeyOf(const RunContext& run, StepIx ix, const std::vector<ReadyInput>& inputs,
                                    const Sources* sources);

// A part of the key that is not what it was: `inputs.table`, `command[2]`, `params.folds`, `files.train.py`, `source`.
struct PartChange {
  std::string part;
  std::string before;  // empty: it was not there
  std::string after;   // empty: it is not there
};
// Both as CacheKey::parts_json. Pure.
std::vector<PartChange> ChangedParts(const std::string& before, const std::string& after);

}  // namespace orch
