// The memory of a fake platform that outlives the daemon: one JSON object a line, appended before it is acted upon.
// Not synced: it survives the process, not the machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace orch::fake {

// A job as the file has it.
struct StoredJob {
  std::string key;
  std::string step;
  uint32_t attempt = 0;
  std::string settings_json;
  std::vector<std::string> outputs;  // paths
  std::string output_dir;
  std::string scratch_dir;
  int64_t submitted = 0;  // microseconds UTC
  int64_t cancelled = 0;  // 0: not
};

// Not thread-safe.
class Journal {
 public:
  Journal() = default;
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Reads what is there and goes on behind it. A last line that was cut off is left out.
  absl::Status Open(const std::string& path, std::map<std::string, StoredJob>* jobs);
  // `submit` lines of one key can be counted: there is never more than one.
  void Submitted(const StoredJob& job);
  void Cancelled(absl::string_view key, int64_t wall);
  void Released(absl::string_view key);

 private:
  void Append(std::string line);
  int file_ = -1;
};

}  // namespace orch::fake
