// A folder in one piece, for where it can only be put down as one object: its listing and the bytes of its files.
//
//   orchpack, 8 bytes: the listing's length, the listing, then for each file in the listing's order
//   8 bytes: its length, its bytes. Lengths have the highest byte first.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch {

// What goes before the listing, and before each file.
std::string PackHead(int64_t listing_bytes);
std::string PackLength(int64_t bytes);

struct Pack {
  std::string listing;
  struct File {
    std::string digest;  // 32 raw bytes, as the listing says; the bytes are not read
    int64_t offset = 0;
    int64_t size = 0;
  };
  std::vector<File> files;
};

// `read` gives `n` bytes at `offset`; false: it cannot. INVALID_ARGUMENT (PACK_INVALID) unless it is a pack of exactly
// `size` bytes; else as ReadListing.
using ReadAt = std::function<bool(int64_t offset, char* out, size_t n)>;
absl::StatusOr<Pack> ReadPack(const ReadAt& read, int64_t size, int64_t max_entries);

}  // namespace orch
