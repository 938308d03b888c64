// What an engine says of pulls, images and containers, and references to images: the same in any pieces, no part of a
// reference is lost, and no container is two things at once.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/docker/image.h"
#include "backends/docker/inspected.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::docker::PullProgress;
  const std::string text(orch::fuzz::View(data, size));
  PullProgress whole;
  whole.Feed(text);
  PullProgress pieces;
  for (size_t at = 0; at < text.size(); at += 7) pieces.Feed(absl::string_view(text).substr(at, 7));
  REQUIRE(whole.fault() == pieces.fault() && whole.Words() == pieces.Words());
  REQUIRE(!orch::docker::PathOf(text).empty() || absl::StrContains(text, "PATH="));
  const orch::docker::ImageReference reference = orch::docker::ParseImage(text);
  REQUIRE(!reference.registry.empty());
  const bool digest = absl::StrContains(text, '@');
  const bool added = !digest && reference.repository == text;  // the usual tag
  REQUIRE(digest ? reference.repository == text
                 : added || absl::StrCat(reference.repository, ":", reference.tag) == text);
  const auto seen = orch::docker::ReadInspected(text, "key", "instance");
  REQUIRE(!seen.has_value() || !(seen->alive && seen->fresh));
  REQUIRE(!seen.has_value() || !seen->fresh || (seen->state.started_wall == 0 && seen->state.error.empty()));
  const auto event = orch::docker::ReadEvent(text);
  REQUIRE(!event.has_value() || event->wall >= 0);
  return 0;
}
