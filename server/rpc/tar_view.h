// A folder as one uncompressed tar file that is never written: any piece of it can be read. Names are sorted, times and
// owners are zero, so that equal folders give equal bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace orch::rpc {

class TarView {
 public:
  // Reads the names below `folder`. Links stay links. INTERNAL if it cannot be read; RESOURCE_EXHAUSTED beyond a
  // million names.
  static absl::StatusOr<TarView> Open(const std::string& folder);

  int64_t size() const { return size_; }
  // Up to `max_bytes` from `offset`; empty at the end.
  absl::StatusOr<std::string> Read(int64_t offset, int64_t max_bytes) const;

 private:
  struct Piece {
    int64_t offset = 0;
    std::string header;  // one or more blocks of 512 bytes
    std::string path;    // of a regular file; empty: header only
    int64_t bytes = 0;
  };
  void Add(const std::string& name, char type, int mode, const std::string& link, const std::string& path,
           int64_t bytes);

  std::vector<Piece> pieces_;
  int64_t size_ = 0;
};

}  // namespace orch::rpc
