// The stream of a watch: pieces do not matter; each event but an error has a version to go on from.
#include <vector>

#include "backends/kubernetes/api/watch_stream.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::vector<std::string> Read(absl::string_view bytes, size_t piece, bool* good) {
  std::vector<std::string> out;
  orch::kubernetes::WatchStream stream;
  *good = true;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    *good = stream.Feed(bytes.substr(at, piece), [&](const orch::kubernetes::WatchEvent& event) {
      REQUIRE(event.object.is_object());
      REQUIRE((event.type == orch::kubernetes::WatchEvent::Type::kError) == event.version.empty());
      out.push_back(event.version + event.object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    });
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto view = orch::fuzz::View(data, size);
  const absl::string_view bytes(view.data(), view.size());
  bool whole = false, parts = false;
  const auto once = Read(bytes, bytes.size(), &whole);
  REQUIRE(once == Read(bytes, 5, &parts) && whole == parts);
  return 0;
}
