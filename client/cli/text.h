// Numbers, times and facts in words for people.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/cli/style.h"
#include "google/protobuf/map.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "orch/v1/run.pb.h"

namespace orch::cli {

// Microseconds since 1970, UTC.
int64_t WallNow();
int64_t Micros(const google::protobuf::Timestamp& time);

// `3m ago`, `just now`, `in 5s`.
std::string Ago(int64_t wall_micros, int64_t now);
// `420ms`, `4.2s`, `3m12s`, `5h03m`, `2d4h`.
std::string Elapsed(int64_t micros);
// `14:03:22` in the local time zone.
std::string ClockTime(int64_t wall_micros);
// `1.5 MiB`.
std::string Bytes(int64_t bytes);
std::optional<std::chrono::milliseconds> ParseDuration(absl::string_view text);

// `EXIT_CODE`; empty for unspecified.
std::string ReasonName(v1::Reason::Code reason);
// `day=7, station=oulu` of an instance's item.
std::string ItemText(const google::protobuf::Struct& item);
// Whether two names are those of neighbours in a fan-out: `train[2]`, `train[3]`.
bool Follows(absl::string_view name, absl::string_view next);
// `train[2…7]` of `train[2]` and `train[7]`.
std::string RangeName(absl::string_view first, absl::string_view last);
// How long something ran: from `start` to `end`, or to `now`; empty before the start.
template <typename Message>
std::string RunTime(const Message& m, int64_t now) {
  if (!m.has_start_time()) return "";
  return Elapsed((m.has_end_time() ? Micros(m.end_time()) : now) - Micros(m.start_time()));
}

// `2 failed, 14 succeeded` from a run's counts.
std::string CountsInWords(const google::protobuf::Map<std::string, int64_t>& counts);
// How many of the counted steps have ended.
int64_t EndedSteps(const google::protobuf::Map<std::string, int64_t>& counts);

// `k=v` of a flag; nothing if there is no `=` or no key.
std::optional<std::pair<std::string, std::string>> KeyValue(absl::string_view text);

// The candidate nearest to `word`, if it is near enough to be what was meant.
std::optional<std::string> Nearest(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace orch::cli
