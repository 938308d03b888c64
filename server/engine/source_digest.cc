#include "server/engine/source_digest.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"
#include "server/engine/blob_store.h"

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
  std::error_code other;
  if (!fs::is_directory(path, error)) return files->Of(path);
  std::vector<std::pair<std::string, std::string>> entries;  // relative path, what it is
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string full = it->path().string();
    const std::string relative = full.substr(path.size() + (path.back() == '/' ? 0 : 1));
    if (Ignored(ignore, relative, it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    if (it->is_directory() && fs::equivalent(it->path(), files->own(), other)) {
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

bool IsLeftOut(const std::vector<std::string>& ignore, const std::string& relative) {
  for (size_t end = relative.find('/');; end = relative.find('/', end + 1)) {
    const std::string part = relative.substr(0, end);
    if (Ignored(ignore, part, part.substr(part.rfind('/') + 1))) return true;
    if (end == std::string::npos) return false;
  }
}

absl::StatusOr<std::string> ListSource(const std::string& path, const std::vector<std::string>& ignore,
                                       const std::string& secret, int64_t max_bytes) {
  std::vector<FolderEntry> entries;
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string full = it->path().string();
    const std::string relative = full.substr(path.size() + (path.back() == '/' ? 0 : 1));
    if (Ignored(ignore, relative, it->path().filename().string())) {
      it.disable_recursion_pending();
      continue;
    }
    FolderEntry entry;
    entry.path = relative;
    if (it->is_symlink()) {
      entry.kind = FolderEntry::Kind::kLink;
      entry.content = fs::read_symlink(it->path(), error).string();
      if (!LinkStaysInside(relative, entry.content)) continue;
    } else if (it->is_directory()) {
      if (std::error_code other; fs::equivalent(it->path(), secret, other)) {
        it.disable_recursion_pending();
        continue;
      }
      entry.kind = FolderEntry::Kind::kFolder;
    } else if (it->is_regular_file()) {
      bytes += static_cast<int64_t>(it->file_size());
      if (bytes > max_bytes) {
        return Error(
            absl::StatusCode::kResourceExhausted, "SOURCE_TOO_LARGE",
            absl::StrCat("the source folder ", path, " has more than ", max_bytes,
                         " bytes (limit source_bytes): name a smaller one as `source`, or leave files out with "
                         "its `ignore`"));
      }
      ASSIGN_OR_RETURN(ContentDigest content, DigestOfFile(full));
      entry.content = std::move(content.digest);
      entry.executable = (it->status().permissions() & fs::perms::owner_exec) != fs::perms::none;
    } else {
      continue;
    }
    entries.push_back(std::move(entry));
  }
  if (error) {
    return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING",
                 absl::StrCat("cannot read the source `", path, "`: ", error.message()));
  }
  return WriteListing(std::move(entries));
}

}  // namespace orch
