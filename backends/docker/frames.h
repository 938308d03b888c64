// The two streams of a container's log, as an engine multiplexes them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace orch::docker {

// Takes a stream of frames apart, whatever pieces it comes in: eight bytes (1 stdout or 2 stderr, three zeros, the size
// with the highest byte first), then so many bytes.
class Frames {
 public:
  // `error`: of stderr.
  using Sink = std::function<void(bool error, absl::string_view bytes)>;

  // Gives what is there of each frame at once. False, from then on: it is no such stream.
  bool Feed(absl::string_view bytes, const Sink& sink);
  // True if nothing of a frame is missing.
  bool whole() const { return !broken_ && header_.empty() && left_ == 0; }

 private:
  std::string header_;
  uint32_t left_ = 0;  // bytes of the frame that are to come
  bool error_ = false;
  bool broken_ = false;
};

}  // namespace orch::docker
