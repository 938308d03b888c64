#include "server/engine/source_digest.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

namespace fs = std::filesystem;

// Written by tools beside the sources while a step runs.
constexpr const char* kNeverSource[] = {".git", "__pycache__", "*.pyc"};

bool Matches(std::string pattern, const std::string& relative, const std::string& name) {
  while (!pattern.empty() && pattern.back() == '/') pattern.pop_back();
  return fnmatch(pattern.c_str(), relative.c_str(), FNM_PATHNAME) == 0 ||
         fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

bool Ignored(const std::vector<std::string>& ignore, const std::string& relative, const std::string& name) {
  const auto matches = [&](const std::string& pattern) { return Matches(pattern, relative, name); };
  return std::any_of(std::begin(kNeverSource), std::end(kNeverSource), matches) ||
         std::any_of(ignore.begin(), ignore.end(), matches);
}

}  // namespace

absl::StatusOr<std::string> SourceDigest(const std::string& path, const std::vector<std::string>& ignore,
                                         FileDigests* files) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return files->Of(path);
  std::vector<std::pair<std::string, std::string>> entries;  // relative path, what it is
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string full = it->path().string();
    const std::string relative = full.substr(path.size() + (path.back() == '/' ? 0 : 1));
    if (Ignored(ignore, relative, it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    if (it->is_symlink()) {
      entries.emplace_back(relative, absl::StrCat("l", fs::read_symlink(it->path(), error).string()));
    } else if (it->is_regular_file()) {
      ASSIGN_OR_RETURN(const std::string digest, files->Of(full));
      const bool runs = (it->status().permissions() & fs::perms::owner_exec) != fs::perms::none;
      entries.emplace_back(relative, absl::StrCat(runs ? "x" : "f", digest));
    }
  }
  if (error) {
    return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING",
                 absl::StrCat("cannot read the source `", path, "`: ", error.message()));
  }
  std::sort(entries.begin(), entries.end());
  Sha256 hash;
  hash.Update("source\n");
  for (const auto& [relative, what] : entries) {
    hash.Update(absl::StrCat(relative.size(), ":", relative, what.size(), ":"));
    hash.Update(what);
  }
  return hash.Finish();
}

}  // namespace orch
