// What can be said of a jq expression from its text alone, before anything runs.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch {

struct ExpressionFacts {
  // A path that certainly starts at the expression's own input, as far as its first two names are written out:
  // `.ingest.rows` is {ingest, rows}; `.train[0].score` and `.params` have no second.
  struct Path {
    std::string head;
    std::string field;  // empty: none, or not written out
  };
  std::vector<Path> paths;           // in order, each once
  bool only_known_paths = true;      // false: it may reach other parts of the input in ways that are not followed
  std::vector<std::string> refused;  // words that are not allowed, as written: `now`, `input`, `$ENV`, …
};

// Total: text that is no jq expression gives some facts as well. Paths are followed up to the first `|`, in groups,
// lists, objects and `if`, not into the arguments of functions, where the input may be another.
ExpressionFacts ReadExpression(absl::string_view text);

}  // namespace orch
