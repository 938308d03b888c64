// Checks of single fields. Each adds to a list, so that a request hears of all its faults at once.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/map.h>
#include <google/protobuf/struct.pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace orch::rpc {

class Checks {
 public:
  void Add(absl::string_view field, absl::string_view reason, absl::string_view description);
  const std::vector<Violation>& violations() const { return violations_; }
  bool ok() const { return violations_.empty(); }
  // OK, or InvalidInput with `reason` and everything that was added.
  absl::Status ToStatus(absl::string_view reason, absl::string_view message) const;

  // Letters, digits, `_ -` and, with `dots`, `.`; begins with a letter or digit; 1 to 200 bytes.
  void Name(absl::string_view field, absl::string_view name, bool dots);
  void Text(absl::string_view field, absl::string_view text, size_t max_bytes);
  void Range(absl::string_view field, int64_t value, int64_t low, int64_t high);
  void Range(absl::string_view field, double value, double low, double high);
  void Count(absl::string_view field, int64_t count, int64_t high);
  void Labels(absl::string_view field, const google::protobuf::Map<std::string, std::string>& labels, int64_t limit);
  // A value that JSON can say, and that is not nested too deep: numbers are finite.
  void Json(absl::string_view field, const google::protobuf::Value& value);
  void Json(absl::string_view field, const google::protobuf::Struct& value);
  // In microseconds; 0 after a violation. At least `low`.
  int64_t Duration(absl::string_view field, const google::protobuf::Duration& duration, int64_t low_micros);
  void RequestId(absl::string_view id);
  // Only `default` until projects are administered.
  void Project(absl::string_view project);

 private:
  std::vector<Violation> violations_;
};

// `text` in backquotes, cut, control characters as `?`: fit for a message.
std::string Quoted(absl::string_view text);

}  // namespace orch::rpc
