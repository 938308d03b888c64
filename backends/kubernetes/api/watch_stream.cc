#include "backends/kubernetes/api/watch_stream.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "backends/kubernetes/api/answer.h"

namespace orch::kubernetes {

bool ParseWatchEvent(absl::string_view line, WatchEvent* out) {
  nlohmann::json event = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!event.is_object()) return false;
  const auto type = event.find("type");
  const auto object = event.find("object");
  if (type == event.end() || !type->is_string() || object == event.end() || !object->is_object()) return false;
  const auto& word = type->get_ref<const std::string&>();
  if (word == "ADDED") {
    out->type = WatchEvent::Type::kAdded;
  } else if (word == "MODIFIED") {
    out->type = WatchEvent::Type::kModified;
  } else if (word == "DELETED") {
    out->type = WatchEvent::Type::kDeleted;
  } else if (word == "BOOKMARK") {
    out->type = WatchEvent::Type::kBookmark;
  } else if (word == "ERROR") {
    out->type = WatchEvent::Type::kError;
  } else {
    return false;
  }
  out->version = out->type == WatchEvent::Type::kError ? "" : MetadataText(*object, "resourceVersion");
  out->object = std::move(*object);
  // What is true of an object is only good with its version: without it nobody could go on from there.
  return out->type == WatchEvent::Type::kError || !out->version.empty();
}

bool WatchStream::Feed(absl::string_view piece, const Take& take) {
  while (!broken_ && !piece.empty()) {
    const size_t end = piece.find('\n');
    const absl::string_view part = piece.substr(0, end);
    if (line_.size() + part.size() > kLongestLine) {
      broken_ = true;
      break;
    }
    line_.append(part.data(), part.size());
    if (end == absl::string_view::npos) break;
    piece.remove_prefix(end + 1);
    const std::string line = std::exchange(line_, {});
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    WatchEvent event;
    if (!ParseWatchEvent(line, &event)) {
      broken_ = true;
      break;
    }
    take(std::move(event));
  }
  if (broken_) line_.clear();
  return !broken_;
}

}  // namespace orch::kubernetes
