// The digest of the code that a step declares as its source.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/inputs.h"

namespace orch {

// Of all files of the folder, by sorted relative path, but for those that match one of `ignore` (shell patterns, of the
// path or of its last part; `name/` and `name` leave out a whole folder) and what no author writes: `.git`,
// `__pycache__`, `*.pyc`, the daemon's own folder. Of a file: its own. 32 raw bytes. FAILED_PRECONDITION
// (INPUT_MISSING).
absl::StatusOr<std::string> SourceDigest(const std::string& path, const std::vector<std::string>& ignore,
                                         FileDigests* files);

// The same files as a listing (server/base/folder_listing.h), with the folders they are in: what is sent to a step that
// runs elsewhere. Links that lead out are left out, and so is the folder `secret`, the daemon's own, if it is in there.
// RESOURCE_EXHAUSTED (SOURCE_TOO_LARGE) beyond `max_bytes`.
absl::StatusOr<std::string> ListSource(const std::string& path, const std::vector<std::string>& ignore,
                                       const std::string& secret, int64_t max_bytes);
// True if the file, or a folder it is in, is not part of the source.
bool IsLeftOut(const std::vector<std::string>& ignore, const std::string& relative);

}  // namespace orch
