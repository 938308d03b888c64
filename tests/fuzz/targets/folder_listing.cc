// The listing of a folder that a launcher sends: written again it has the same bytes, and nothing in it leads out.
#include "server/base/folder_listing.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const auto read = orch::ReadListing(absl::string_view(view.data(), view.size()), 1000);
  if (!read.ok()) return 0;
  REQUIRE(orch::WriteListing(*read) == view);
  for (const orch::FolderEntry& entry : *read) {
    REQUIRE(orch::IsPlainPath(entry.path));
    if (entry.kind == orch::FolderEntry::Kind::kLink) REQUIRE(orch::LinkStaysInside(entry.path, entry.content));
  }
  return 0;
}
