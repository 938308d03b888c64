// The stream of a watch: one JSON object a line.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace orch::kubernetes {

struct WatchEvent {
  enum class Type { kAdded, kModified, kDeleted, kBookmark, kError };
  Type type = Type::kError;
  nlohmann::json object;  // of an error: a Status
  std::string version;    // the object's; empty: of an error
};

// One line without its end; false if it is no event. An event of a kind that is unknown is none.
bool ParseWatchEvent(absl::string_view line, WatchEvent* out);

// Pieces in any size; whole events out.
class WatchStream {
 public:
  using Take = std::function<void(WatchEvent)>;
  // An object is at most 1.5 MiB where the servers keep it, and a little longer as text.
  static constexpr size_t kLongestLine = 8 << 20;

  // False if this is no stream of events (any more); then it takes no more.
  bool Feed(absl::string_view piece, const Take& take);
  // Nothing is left of a line that has begun.
  bool whole() const { return line_.empty(); }

 private:
  std::string line_;
  bool broken_ = false;
};

}  // namespace orch::kubernetes
