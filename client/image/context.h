// What an engine builds from: files in an archive whose bytes follow from theirs alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::image {

// What of a folder is left out, by the lines of an ignore file: `*.log`, `/build`, `data/`, `**/cache`, `!keep.log`;
// `#` begins a comment. The last line that matches decides; a folder that is left out is left out whole.
class IgnoreRules {
 public:
  IgnoreRules() = default;
  explicit IgnoreRules(absl::string_view text);
  bool Ignores(absl::string_view path, bool folder) const;

 private:
  struct Rule {
    std::string pattern;
    bool keep = false;
    bool folder = false;    // of folders alone
    bool anchored = false;  // from the root, not at any depth
  };
  std::vector<Rule> rules_;
};

// A tar archive. Times, owners and the order of calls to the file system are in none of its bytes.
class Context {
 public:
  // Paths are relative and not there yet.
  void AddFile(const std::string& path, std::string bytes, bool executable);
  // All of `folder` that `rules` leave, below `prefix`. NOT_FOUND (NO_SUCH_FOLDER), RESOURCE_EXHAUSTED
  // (CONTEXT_TOO_LARGE) beyond `limit` bytes, INVALID_ARGUMENT (CONTEXT_INVALID) for what no archive can hold; links
  // are kept as they are.
  absl::Status AddFolder(const std::string& folder, const std::string& prefix, const IgnoreRules& rules, int64_t limit);
  // The archive; once.
  std::string Finish();

 private:
  struct Entry {
    std::string path;
    std::string bytes;
    std::string link;  // where it leads
    bool executable = false;
  };
  std::vector<Entry> entries_;
};

}  // namespace orch::image
