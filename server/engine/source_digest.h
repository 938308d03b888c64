// The digest of the code that a step declares as its source.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/inputs.h"

namespace orch {

// Of all files of the folder, by sorted relative path, but for those that match one of `ignore` (shell patterns, of the
// path or of its last part; `name/` and `name` leave out a whole folder) and what no author writes: `.git`,
// `__pycache__`, `*.pyc`. Of a file: its own. 32 raw bytes. FAILED_PRECONDITION (INPUT_MISSING).
absl::StatusOr<std::string> SourceDigest(const std::string& path, const std::vector<std::string>& ignore,
                                         FileDigests* files);

}  // namespace orch
