#include "backends/docker/container_log.h"

#include <algorithm>

#include "server/base/clock.h"

namespace orch::docker {

void ContainerLog::Open(const std::string& prefix) {
  frames_ = Frames();
  files_.Open(prefix);
  for (const bool error : {false, true}) skip_[error] = files_.bytes(error);
  fault_ = files_.fault();
}

void ContainerLog::Write(bool error, absl::string_view bytes) {
  const auto known = static_cast<size_t>(std::min<int64_t>(skip_[error], static_cast<int64_t>(bytes.size())));
  skip_[error] -= static_cast<int64_t>(known);
  bytes.remove_prefix(known);
  files_.Write(error, bytes, Clock::Real().Now().wall);
  fault_ = files_.fault();
}

bool ContainerLog::Feed(absl::string_view bytes) {
  const bool good = frames_.Feed(bytes, [this](bool error, absl::string_view piece) { Write(error, piece); });
  if (!good && fault_.empty()) fault_ = "the engine sent something else than a log";
  return fault_.empty();
}

}  // namespace orch::docker
