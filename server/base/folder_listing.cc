#include "server/base/folder_listing.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr absl::string_view kHead = "folder\n";
constexpr size_t kDigestBytes = 32;
constexpr size_t kMaxPath = 4096;

absl::Status Invalid(absl::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "LISTING_INVALID", absl::StrCat("the folder's listing ", what));
}

// `12:` and as many bytes.
bool TakeText(absl::string_view* in, absl::string_view* out) {
  size_t length = 0;
  size_t digits = 0;
  while (digits < in->size() && (*in)[digits] >= '0' && (*in)[digits] <= '9' && digits < 5) {
    length = length * 10 + static_cast<size_t>((*in)[digits++] - '0');
  }
  if (digits == 0 || (digits > 1 && (*in)[0] == '0') || digits >= in->size() || (*in)[digits] != ':') return false;
  in->remove_prefix(digits + 1);
  if (length > kMaxPath || in->size() < length) return false;
  *out = in->substr(0, length);
  in->remove_prefix(length);
  return true;
}

}  // namespace

bool IsPlainPath(absl::string_view path) {
  if (path.empty() || path.size() > kMaxPath || path.find('\0') != absl::string_view::npos) return false;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
  }
  return true;
}

bool LinkStaysInside(absl::string_view path, absl::string_view target) {
  if (target.empty() || target[0] == '/' || target.find('\0') != absl::string_view::npos) return false;
  int64_t depth = std::count(path.begin(), path.end(), '/');
  bool down = false;
  for (const absl::string_view part : absl::StrSplit(target, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      down = true;
    } else if (down || --depth < 0) {
      return false;
    }
  }
  return true;
}

std::string WriteListing(std::vector<FolderEntry> entries) {
  std::sort(entries.begin(), entries.end(), [](const FolderEntry& a, const FolderEntry& b) { return a.path < b.path; });
  std::string out(kHead);
  for (const FolderEntry& entry : entries) {
    // Lengths first, so that no name can pretend to be another entry.
    absl::StrAppend(&out, std::string(1, static_cast<char>(entry.kind)), entry.executable ? "x" : "-",
                    entry.path.size(), ":", entry.path, entry.content.size(), ":", entry.content);
  }
  return out;
}

absl::StatusOr<std::vector<FolderEntry>> ReadListing(absl::string_view bytes, int64_t max_entries) {
  if (bytes.substr(0, kHead.size()) != kHead) return Invalid("does not begin like one");
  bytes.remove_prefix(kHead.size());
  std::vector<FolderEntry> out;
  std::set<absl::string_view> folders;
  absl::string_view last;
  while (!bytes.empty()) {
    if (static_cast<int64_t>(out.size()) >= max_entries) {
      return Error(absl::StatusCode::kResourceExhausted, "LISTING_TOO_LARGE",
                   absl::StrCat("the folder has more than ", max_entries, " entries (limit folder_entries)"));
    }
    if (bytes.size() < 2) return Invalid("is cut off");
    const char kind = bytes[0];
    const char executable = bytes[1];
    if ((kind != 'f' && kind != 'd' && kind != 'l') || (executable != 'x' && executable != '-')) {
      return Invalid(absl::StrCat("has an entry of no kind after ", out.size()));
    }
    bytes.remove_prefix(2);
    absl::string_view path;
    absl::string_view content;
    if (!TakeText(&bytes, &path) || !TakeText(&bytes, &content)) return Invalid("is cut off");
    if (!IsPlainPath(path)) return Invalid(absl::StrCat("names `", path.substr(0, 100), "`, which is no path inside"));
    if (!out.empty() && path <= last) return Invalid(absl::StrCat("is not sorted at `", path, "`"));
    const size_t slash = path.rfind('/');
    if (slash != absl::string_view::npos && folders.count(path.substr(0, slash)) == 0) {
      return Invalid(absl::StrCat("names `", path, "` but not its folder"));
    }
    const bool good = kind == 'f'   ? content.size() == kDigestBytes
                      : kind == 'd' ? content.empty()
                                    : LinkStaysInside(path, content);
    if (!good || (executable == 'x' && kind != 'f')) {
      return Invalid(absl::StrCat("has a bad entry for `", path, "`"));
    }
    if (kind == 'd') folders.insert(path);  // views of `bytes`, which outlives them
    last = path;
    out.push_back({std::string(path), static_cast<FolderEntry::Kind>(kind), executable == 'x', std::string(content)});
  }
  return out;
}

}  // namespace orch
