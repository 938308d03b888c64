// A folder in one piece: what is taken lies within it, has the listing's files in their order and nothing between, and
// is the same when it is put together again.
#include "server/base/folder_pack.h"

#include <cstring>

#include "server/base/folder_listing.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto read = [&](int64_t offset, char* out, size_t n) {
    REQUIRE(offset >= 0 && static_cast<size_t>(offset) <= size);
    if (n > size - static_cast<size_t>(offset)) return false;
    if (n > 0) memcpy(out, data + offset, n);
    return true;
  };
  const auto pack = orch::ReadPack(read, static_cast<int64_t>(size), 10'000);
  if (!pack.ok()) return 0;
  const auto entries = orch::ReadListing(pack->listing, 10'000);
  REQUIRE(entries.ok());
  std::string again = orch::PackHead(static_cast<int64_t>(pack->listing.size())) + pack->listing;
  size_t at = 0;
  for (const orch::FolderEntry& entry : *entries) {
    if (entry.kind != orch::FolderEntry::Kind::kFile) continue;
    REQUIRE(at < pack->files.size());
    const orch::Pack::File& file = pack->files[at++];
    REQUIRE(file.digest == entry.content);
    REQUIRE(file.offset >= 0 && file.size >= 0 && static_cast<size_t>(file.offset + file.size) <= size);
    again += orch::PackLength(file.size);
    again.append(reinterpret_cast<const char*>(data) + file.offset, static_cast<size_t>(file.size));
  }
  REQUIRE(at == pack->files.size());
  REQUIRE(again.size() == size && memcmp(again.data(), data, size) == 0);
  return 0;
}
