// Two streams in one: put together and taken apart in any pieces, by any number of processes, they are as before. How
// far a log was read is read as it was written.
#include "server/base/stream_marks.h"

#include "backends/kubernetes/job_log.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const std::string_view bytes(view.data(), view.size());
  constexpr char kFence[] = "f";  // short, so that marks are found by chance
  std::string wanted[2], whole;
  orch::StreamMarks marks(kFence);
  for (size_t at = 0; at + 1 < bytes.size();) {
    const bool error = (bytes[at] & 1) != 0;
    const std::string_view piece = bytes.substr(at + 1, static_cast<unsigned char>(bytes[at]) >> 4);
    at += 1 + piece.size();
    const bool forged =
        piece.find('\a') != std::string_view::npos;  // a step that makes marks moves its own bytes alone
    if (forged) continue;
    wanted[error].append(piece);
    marks.Put(error, piece, &whole);
  }
  for (const size_t step : {size_t{1}, size_t{3}, whole.size() + 1}) {
    std::string got[2];
    const auto take = [&](bool error, std::string_view text) { got[error].append(text); };
    orch::StreamSplitter::State state;
    for (size_t at = 0; at < whole.size(); at += step) {
      orch::StreamSplitter splitter(kFence, state);
      splitter.Feed(std::string_view(whole).substr(at, step), take);
      state = splitter.state();
    }
    orch::StreamSplitter(kFence, state).Flush(take);
    REQUIRE(got[0] == wanted[0] && got[1] == wanted[1]);
  }
  orch::kubernetes::LogProgress progress, again;
  if (orch::kubernetes::ReadProgress(absl::string_view(bytes.data(), bytes.size()), &progress)) {
    REQUIRE(orch::kubernetes::ReadProgress(orch::kubernetes::WriteProgress(progress), &again));
    REQUIRE(orch::kubernetes::WriteProgress(again) == orch::kubernetes::WriteProgress(progress));
  }
  return 0;
}
