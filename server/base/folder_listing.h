// The listing of a folder: what its digest is made of. The SHA-256 of a listing's bytes is the folder's digest, so that
// a folder is sent as a listing and its files, each checked by the digest that named it.
//
//   folder\n, then for each entry, by path: KIND EXECUTABLE LENGTH:PATH LENGTH:CONTENT without blanks
//
// KIND is f, d or l; EXECUTABLE x or -; CONTENT the 32 bytes of a file's digest, a link's target, nothing for a folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch {

struct FolderEntry {
  enum class Kind : char { kFile = 'f', kFolder = 'd', kLink = 'l' };
  std::string path;  // relative, with `/`
  Kind kind = Kind::kFile;
  bool executable = false;  // a file's
  std::string content;      // 32 raw bytes of a digest, or the target of a link
};

// Its bytes; `entries` in any order.
std::string WriteListing(std::vector<FolderEntry> entries);

// What WriteListing wrote, sorted by path. INVALID_ARGUMENT (LISTING_INVALID): it is none, or names what no folder may
// have: a path that is absolute, has `..` or is there twice, an entry whose folder is not listed, a link that leads
// out. RESOURCE_EXHAUSTED (LISTING_TOO_LARGE) beyond `max_entries`.
absl::StatusOr<std::vector<FolderEntry>> ReadListing(absl::string_view bytes, int64_t max_entries);

// True if a link at `path` with this target stays inside its folder, whatever other links are in it: a `..` behind
// another name is refused, since that may be a link.
bool LinkStaysInside(absl::string_view path, absl::string_view target);

// True for what a listing may name: `a/b`, no part empty, `.` or `..`, no zero byte.
bool IsPlainPath(absl::string_view path);

}  // namespace orch
