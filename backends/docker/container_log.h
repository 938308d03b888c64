// What a container writes, on its way into the files that readers know.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "backends/docker/frames.h"
#include "backends/local/log_pair.h"

namespace orch::docker {

// One attempt's two logs. The engine sends a log from its beginning each time it is asked, so what the files have
// already is passed over: a log can be followed again after any break.
class ContainerLog {
 public:
  // `prefix`: the files are PREFIX.out and PREFIX.err, each with an index of times. Before every stream.
  void Open(const std::string& prefix);
  // False, from then on: it is no log, or it cannot be written; `fault` says which.
  bool Feed(absl::string_view bytes);
  void Close() { files_.Close(); }

  // Why it could not be written, or is no log; empty: all is well.
  const std::string& fault() const { return fault_; }
  int64_t bytes(bool error) const { return files_.bytes(error); }
  int64_t total() const { return files_.total(); }

 private:
  void Write(bool error, absl::string_view bytes);

  Frames frames_;
  local::LogPair files_;
  int64_t skip_[2] = {};  // bytes to come that are there already
  std::string fault_;
};

}  // namespace orch::docker
