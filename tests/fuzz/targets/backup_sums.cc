// The digests beside a backup: what is read is written the same way, and names nothing outside of its folder.
#include "server/store/backup_files.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const auto read = orch::store::ParseSums(absl::string_view(view.data(), view.size()), "sums");
  if (!read.ok()) return 0;
  for (const auto& [name, digest] : *read) {
    REQUIRE(name.find('/') == std::string::npos && !name.empty());
    REQUIRE(digest.size() == 64);
  }
  const auto again = orch::store::ParseSums(orch::store::SumsText(*read), "sums");
  REQUIRE(again.ok() && *again == *read);
  return 0;
}
