#include "server/engine/sources.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
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

bool IsExecutable(const fs::directory_entry& file) {
  return (file.status().permissions() & fs::perms::owner_exec) != fs::perms::none;
}

}  // namespace

struct Sources::Part {
  std::string relative;
  const fs::directory_entry& entry;
};

absl::Status Sources::Walk(const std::string& path, const std::vector<std::string>& ignore,
                           absl::FunctionRef<absl::Status(const Part&)> visit) const {
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string full = it->path().string();
    Part part{full.substr(path.size() + (path.back() == '/' ? 0 : 1)), *it};
    std::error_code other;
    const bool folder = it->is_directory(other) && !it->is_symlink(other);
    if (Ignored(ignore, part.relative, it->path().filename().string()) ||
        (folder && fs::equivalent(it->path(), own_, other))) {
      it.disable_recursion_pending();
      continue;
    }
    RETURN_IF_ERROR(visit(part));
  }
  if (!error) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING",
               absl::StrCat("cannot read the source `", path, "`: ", error.message()));
}

absl::StatusOr<std::string> Sources::Digest(const std::string& path, const std::vector<std::string>& ignore) const {
  std::error_code error;
  if (!fs::is_directory(path, error)) return files_->Of(path);
  std::vector<std::pair<std::string, std::string>> entries;  // relative path, what it is
  RETURN_IF_ERROR(Walk(path, ignore, [&](const Part& part) -> absl::Status {
    if (part.entry.is_symlink()) {
      entries.emplace_back(part.relative, absl::StrCat("l", fs::read_symlink(part.entry.path(), error).string()));
    } else if (part.entry.is_regular_file()) {
      ASSIGN_OR_RETURN(const std::string digest, files_->Of(part.entry.path().string()));
      entries.emplace_back(part.relative, absl::StrCat(IsExecutable(part.entry) ? "x" : "f", digest));
    }
    return absl::OkStatus();
  }));
  std::sort(entries.begin(), entries.end());
  Sha256 hash;
  hash.Update("source\n");
  for (const auto& [relative, what] : entries) {
    hash.Update(absl::StrCat(relative.size(), ":", relative, what.size(), ":"));
    hash.Update(what);
  }
  return hash.Finish();
}

bool Sources::LeftOut(const std::vector<std::string>& ignore, absl::string_view relative) {
  for (size_t end = relative.find('/');; end = relative.find('/', end + 1)) {
    const std::string part(relative.substr(0, end));
    if (Ignored(ignore, part, part.substr(part.rfind('/') + 1))) return true;
    if (end == absl::string_view::npos) return false;
  }
}

bool Sources::IsOwn(const std::string& path) const {
  std::error_code error;
  const std::string own = fs::canonical(own_, error).string() + "/";
  return absl::StartsWith(fs::canonical(path, error).string() + "/", own);
}

absl::StatusOr<std::string> Sources::List(const std::string& path, const std::vector<std::string>& ignore,
                                          int64_t max_bytes) const {
  std::vector<FolderEntry> entries;
  int64_t bytes = 0;
  RETURN_IF_ERROR(Walk(path, ignore, [&](const Part& part) -> absl::Status {
    FolderEntry entry;
    entry.path = part.relative;
    if (part.entry.is_symlink()) {
      std::error_code error;
      entry.kind = FolderEntry::Kind::kLink;
      entry.content = fs::read_symlink(part.entry.path(), error).string();
      if (!LinkStaysInside(part.relative, entry.content)) return absl::OkStatus();
    } else if (part.entry.is_directory()) {
      entry.kind = FolderEntry::Kind::kFolder;
    } else if (part.entry.is_regular_file()) {
      bytes += static_cast<int64_t>(part.entry.file_size());
      if (bytes > max_bytes) {
        return Error(
            absl::StatusCode::kResourceExhausted, "SOURCE_TOO_LARGE",
            absl::StrCat("the source folder ", path, " has more than ", max_bytes,
                         " bytes (limit source_bytes): name a smaller one as `source`, or leave files out with "
                         "its `ignore`"));
      }
      ASSIGN_OR_RETURN(ContentDigest content, DigestOfFile(part.entry.path().string()));
      entry.content = std::move(content.digest);
      entry.executable = IsExecutable(part.entry);
    } else {
      return absl::OkStatus();
    }
    entries.push_back(std::move(entry));
    return absl::OkStatus();
  }));
  return WriteListing(std::move(entries));
}

}  // namespace orch
