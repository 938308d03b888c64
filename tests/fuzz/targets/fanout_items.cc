// The items of a fan-out as they are stored: what is read is written the same.
#include "server/core/fanout.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  orch::Items items;
  if (!orch::DecodeItems({view.data(), view.size()}, &items)) return 0;
  const std::string again = orch::EncodeItems(items);
  if (!items.empty()) REQUIRE(again == view);
  return 0;
}
