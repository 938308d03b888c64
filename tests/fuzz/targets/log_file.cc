// The log of an attempt and its index, damaged or not: pieces are the whole, times are those of the index.
#include "backends/local/log_file.h"

#include <cstring>

#include "tests/fuzz/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const orch::fuzz::Scratch scratch;
  if (size < 2) return 0;
  // Where the text ends and the index begins, and how much is read at a time.
  const size_t cut = std::min<size_t>(data[0], size - 2);
  const int64_t piece = 1 + data[1] % 32;
  const std::string_view text = orch::fuzz::View(data + 2, cut);
  const std::string_view index = orch::fuzz::View(data + 2 + cut, size - 2 - cut);
  const std::string path = scratch.Write("log", text);
  scratch.Write("log.idx", index);
  const auto reader = orch::local::OpenLogFile(path);
  REQUIRE(reader->Size().value() == static_cast<int64_t>(text.size()));
  std::string joined;
  for (;;) {
    const std::string next = reader->Read(static_cast<int64_t>(joined.size()), piece).value();
    if (next.empty()) break;
    REQUIRE(static_cast<int64_t>(next.size()) <= piece);
    joined += next;
  }
  REQUIRE(joined == text);
  REQUIRE(reader->Read(static_cast<int64_t>(text.size()), piece).value().empty());
  REQUIRE(reader->Read(INT64_MAX, INT64_MAX).value().empty());
  for (const int64_t offset : {int64_t{0}, piece, int64_t{1} << 40, INT64_MAX}) {
    const int64_t time = reader->TimeOf(offset);
    bool known = time == 0;
    for (size_t at = 0; at + 16 <= index.size(); at += 16) {
      int64_t pair[2];
      std::memcpy(pair, index.data() + at, sizeof(pair));
      known = known || (pair[0] == time && pair[1] > offset);
    }
    REQUIRE(known);
  }
  return 0;
}
