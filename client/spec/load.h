// Text to tree: encoding, syntax and size are judged here; what the fields mean is not.
//
// Read by libyaml's event parser: it does not recurse, and at 24 MB of YAML it takes 0.3 s where yaml-cpp takes 1.9 s
// (and 700 MB for JSON on one line).
#pragma once

#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/spec/parse.h"
#include "client/spec/tree.h"

namespace orch::spec {

// Null if there is a problem; problems are added to `problems`. The root is a mapping or list or scalar, or kNoNode for
// an empty document.
std::shared_ptr<Tree> Load(absl::string_view text, const ParseLimits& limits, std::vector<Problem>* problems);

}  // namespace orch::spec
