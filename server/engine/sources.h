// The code that steps declare as their source: a file or folder of this machine, and what is a part of it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/inputs.h"

namespace orch {

// A part of a folder are all its files but for those that match one of `ignore` (shell patterns, of the path or of its
// last part; `name/` and `name` leave out a whole folder) and what no author writes: `.git`, `__pycache__`, `*.pyc`,
// the daemon's own folder. Any thread.
class Sources {
 public:
  // `own`: the daemon's folder. `files` outlives it.
  Sources(std::string own, FileDigests* files) : own_(std::move(own)), files_(files) {}

  // Of the files of a folder by sorted relative path, or that of a single file. 32 raw bytes. INVALID_ARGUMENT
  // (INPUT_MISSING): nothing is there; FAILED_PRECONDITION (INPUT_MISSING): it cannot be read.
  absl::StatusOr<std::string> Digest(const std::string& path, const std::vector<std::string>& ignore) const;

  // The same files as a listing (server/base/folder_listing.h), with the folders they are in: what is sent to a step
  // that runs elsewhere. Links that lead out are left out. RESOURCE_EXHAUSTED (SOURCE_TOO_LARGE) beyond `max_bytes`.
  absl::StatusOr<std::string> List(const std::string& path, const std::vector<std::string>& ignore,
                                   int64_t max_bytes) const;

  // True if the file at `relative`, or a folder it is in, is left out by name. Pure.
  static bool LeftOut(const std::vector<std::string>& ignore, absl::string_view relative);

  // True if `path` is the daemon's folder or in there, links followed.
  bool IsOwn(const std::string& path) const;

  FileDigests* files() const { return files_; }

 private:
  struct Part;
  // What is there, links, files and folders, in the order of the file system.
  absl::Status Walk(const std::string& path, const std::vector<std::string>& ignore,
                    absl::FunctionRef<absl::Status(const Part&)> visit) const;

  const std::string own_;
  FileDigests* const files_;
};

}  // namespace orch
