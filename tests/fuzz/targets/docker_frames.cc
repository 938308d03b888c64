// The log of a container as an engine sends it: pieces do not matter, and no more comes out than went in.
#include "backends/docker/frames.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const absl::string_view bytes(view.data(), view.size());
  std::string once[2];
  std::string pieces[2];
  orch::docker::Frames whole;
  const bool good =
      whole.Feed(bytes, [&](bool error, absl::string_view text) { once[error].append(text.data(), text.size()); });
  orch::docker::Frames parts;
  bool still = true;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    still = parts.Feed(bytes.substr(at, 3),
                       [&](bool error, absl::string_view text) { pieces[error].append(text.data(), text.size()); });
  }
  REQUIRE(still == good && whole.whole() == parts.whole());
  REQUIRE(once[0] == pieces[0] && once[1] == pieces[1]);
  REQUIRE(once[0].size() + once[1].size() <= bytes.size());
  return 0;
}
