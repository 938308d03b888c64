// A pod's log: pieces do not matter, nothing comes that was not there, and a position is never behind a former one.
#include "backends/kubernetes/api/pod_log.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const absl::string_view bytes(view.data(), view.size());
  const auto read = [&](orch::kubernetes::StampedLines* lines, size_t piece) {
    std::string out;
    int64_t newest = lines->position().newest;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      lines->Feed(bytes.substr(at, piece), [&](absl::string_view text, int64_t nanos) {
        REQUIRE(nanos > 0 && !text.empty());
        out.append(text.data(), text.size());
      });
      REQUIRE(lines->position().newest >= newest);
      newest = lines->position().newest;
    }
    return out;
  };
  orch::kubernetes::StampedLines whole{{}}, parts{{}};
  const std::string once = read(&whole, bytes.size() + 1);
  REQUIRE(once == read(&parts, 3) && once.size() <= bytes.size());
  REQUIRE(whole.position().lines == parts.position().lines && whole.position().bytes == parts.position().bytes);
  return 0;
}
