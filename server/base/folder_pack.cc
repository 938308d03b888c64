#include "server/base/folder_pack.h"

#include <algorithm>
#include <utility>

#include "server/base/folder_listing.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr absl::string_view kMagic = "orchpack";
constexpr size_t kLength = 8;
constexpr int64_t kMaxListing = int64_t{256} << 20;

absl::Status Invalid() {
  return Error(absl::StatusCode::kInvalidArgument, "PACK_INVALID", "what was left is no folder in one piece");
}

bool ReadLength(const ReadAt& read, int64_t offset, int64_t* out) {
  char bytes[kLength];
  if (!read(offset, bytes, kLength)) return false;
  uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  if (value > INT64_MAX) return false;
  *out = static_cast<int64_t>(value);
  return true;
}

}  // namespace

std::string PackLength(int64_t bytes) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(static_cast<uint64_t>(bytes) >> shift));
  return out;
}

std::string PackHead(int64_t listing_bytes) { return std::string(kMagic) + PackLength(listing_bytes); }

absl::StatusOr<Pack> ReadPack(const ReadAt& read, int64_t size, int64_t max_entries) {
  Pack out;
  char magic[kMagic.size()];
  int64_t at = kMagic.size() + kLength;
  int64_t listing = 0;
  if (size < at || !read(0, magic, sizeof(magic)) || absl::string_view(magic, sizeof(magic)) != kMagic ||
      !ReadLength(read, kMagic.size(), &listing) || listing > std::min(size - at, kMaxListing)) {
    return Invalid();
  }
  out.listing.resize(static_cast<size_t>(listing));
  if (!read(at, out.listing.data(), out.listing.size())) return Invalid();
  at += listing;
  ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, ReadListing(out.listing, max_entries));
  for (const FolderEntry& entry : entries) {
    if (entry.kind != FolderEntry::Kind::kFile) continue;
    Pack::File file;
    file.digest = entry.content;
    if (size - at < static_cast<int64_t>(kLength) || !ReadLength(read, at, &file.size)) return Invalid();
    file.offset = at + static_cast<int64_t>(kLength);
    if (file.size > size - file.offset) return Invalid();
    at = file.offset + file.size;
    out.files.push_back(std::move(file));
  }
  if (at != size) return Invalid();
  return out;
}

}  // namespace orch
