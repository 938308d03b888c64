#include "backends/docker/frames.h"

#include <algorithm>

namespace orch::docker {

bool Frames::Feed(absl::string_view bytes, const Sink& sink) {
  constexpr size_t kHeader = 8;
  while (!broken_ && !bytes.empty()) {
    if (left_ > 0) {
      const absl::string_view piece = bytes.substr(0, left_);
      sink(error_, piece);
      left_ -= static_cast<uint32_t>(piece.size());
      bytes.remove_prefix(piece.size());
      continue;
    }
    const size_t take = std::min(kHeader - header_.size(), bytes.size());
    header_.append(bytes.data(), take);
    bytes.remove_prefix(take);
    if (header_.size() < kHeader) break;
    const auto byte = [this](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(header_[i])); };
    if (byte(0) > 2 || byte(1) != 0 || byte(2) != 0 || byte(3) != 0) {
      broken_ = true;
      break;
    }
    error_ = byte(0) == 2;
    left_ = byte(4) << 24 | byte(5) << 16 | byte(6) << 8 | byte(7);
    header_.clear();
  }
  return !broken_;
}

}  // namespace orch::docker
