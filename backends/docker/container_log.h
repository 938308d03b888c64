// What a container writes, on its way into the files that readers know.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "backends/docker/frames.h"

namespace orch::docker {

// One attempt's two logs. The engine sends a log from its beginning each time it is asked, so what the files have
// already is passed over: a log can be followed again after any break.
class ContainerLog {
 public:
  ContainerLog() = default;
  ~ContainerLog() { Close(); }
  ContainerLog(const ContainerLog&) = delete;
  ContainerLog& operator=(const ContainerLog&) = delete;

  // `prefix`: the files are PREFIX.out and PREFIX.err, each with an index of times. Before every stream.
  void Open(const std::string& prefix);
  // False: it is no log, or it cannot be written.
  bool Feed(absl::string_view bytes);
  void Close();

  int64_t bytes(bool error) const { return streams_[error].size; }
  int64_t total() const { return streams_[0].size + streams_[1].size; }

 private:
  struct Stream {
    int fd = -1;
    int index_fd = -1;
    int64_t size = 0;
    int64_t skip = 0;    // bytes to come that are there already
    int64_t marked = 0;  // when the index got its last entry
  };
  void Write(Stream* stream, absl::string_view bytes);

  Frames frames_;
  Stream streams_[2];
  bool failed_ = false;
};

}  // namespace orch::docker
