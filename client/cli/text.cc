#include "client/cli/text.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/json.h"
#include "server/base/clock.h"

namespace orch::cli {
namespace {

constexpr int64_t kSecond = 1'000'000;

// Edits between two words; two neighbours that changed places are one edit, the commonest slip of all.
int Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

int64_t WallNow() { return Clock::Real().Now().wall; }

int64_t Micros(const google::protobuf::Timestamp& time) { return time.seconds() * kSecond + time.nanos() / 1000; }

std::string Elapsed(int64_t micros) {
  micros = std::max<int64_t>(micros, 0);
  const int64_t ms = micros / 1000;
  if (ms < 1000) return absl::StrCat(ms, "ms");
  if (ms < 60'000) return absl::StrFormat("%d.%ds", ms / 1000, ms % 1000 / 100);
  const int64_t s = ms / 1000;
  if (s < 3600) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  if (s < 86'400) return absl::StrFormat("%dh%02dm", s / 3600, s % 3600 / 60);
  return absl::StrFormat("%dd%dh", s / 86'400, s % 86'400 / 3600);
}

std::string Ago(int64_t wall_micros, int64_t now) {
  const int64_t s = (now - wall_micros) / kSecond;
  const auto span = [](int64_t n) {
    if (n < 60) return absl::StrCat(n, "s");
    if (n < 3600) return absl::StrCat(n / 60, "m");
    if (n < 86'400) return absl::StrCat(n / 3600, "h");
    return absl::StrCat(n / 86'400, "d");
  };
  if (s < 0) return absl::StrCat("in ", span(-s));
  if (s < 2) return "just now";
  return absl::StrCat(span(s), " ago");
}

std::string ClockTime(int64_t wall_micros) {
  const time_t seconds = wall_micros / kSecond;
  struct tm parts {};
  localtime_r(&seconds, &parts);
  return absl::StrFormat("%02d:%02d:%02d", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string Bytes(int64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  for (const char* unit : {"KiB", "MiB", "GiB"}) {
    value /= 1024;
    if (value < 1024) return absl::StrFormat("%.1f %s", value, unit);
  }
  return absl::StrFormat("%.1f TiB", value / 1024);
}

std::optional<std::chrono::milliseconds> ParseDuration(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() &&
         (absl::ascii_isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.')) {
    ++digits;
  }
  double number = 0;
  if (digits == 0 || !absl::SimpleAtod(text.substr(0, digits), &number)) return std::nullopt;
  const absl::string_view unit = text.substr(digits);
  double factor = 0;
  if (unit == "ms") factor = 1;
  if (unit == "s" || unit.empty()) factor = 1e3;
  if (unit == "m") factor = 60e3;
  if (unit == "h") factor = 3600e3;
  if (unit == "d") factor = 86'400e3;
  const double ms = number * factor;
  // Ten years: longer waits are for ever, and clocks must not overflow.
  if (factor == 0 || !std::isfinite(ms) || ms > 3650.0 * 86'400e3) return std::nullopt;
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(ms)));
}

std::string ReasonName(v1::Reason::Code reason) {
  return reason == v1::Reason::REASON_UNSPECIFIED ? "" : v1::Reason::Code_Name(reason);
}

std::string ItemText(const google::protobuf::Struct& item) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : item.fields()) {
    const bool text = value.kind_case() == google::protobuf::Value::kStringValue;
    parts.push_back(Clean(absl::StrCat(key, "=", text ? value.string_value() : ToJson(value).dump())));
  }
  std::sort(parts.begin(), parts.end());
  return absl::StrJoin(parts, ", ");
}

namespace {

// `train[2]` → 2, with `head` as `train`.
std::optional<int64_t> InstanceOf(absl::string_view name, absl::string_view* head) {
  int64_t number = 0;
  const size_t at = name.rfind('[');
  if (at == absl::string_view::npos || !absl::EndsWith(name, "]") ||
      !absl::SimpleAtoi(name.substr(at + 1, name.size() - at - 2), &number)) {
    return std::nullopt;
  }
  *head = name.substr(0, at);
  return number;
}

}  // namespace

bool Follows(absl::string_view name, absl::string_view next) {
  absl::string_view head, next_head;
  const std::optional<int64_t> number = InstanceOf(name, &head), next_number = InstanceOf(next, &next_head);
  return number.has_value() && next_number.has_value() && *number + 1 == *next_number && head == next_head;
}

std::string RangeName(absl::string_view first, absl::string_view last) {
  absl::string_view head, last_head;
  const std::optional<int64_t> from = InstanceOf(first, &head), to = InstanceOf(last, &last_head);
  if (!from.has_value() || !to.has_value()) return absl::StrCat(first, " … ", last);
  return absl::StrCat(head, "[", *from, "…", *to, "]");
}

std::string CountsInWords(const google::protobuf::Map<std::string, int64_t>& counts) {
  std::vector<std::string> parts;
  // What matters most comes first.
  for (int i : {v1::Step::FAILED, v1::Step::RUNNING, v1::Step::STOPPING, v1::Step::BACKOFF, v1::Step::QUEUED,
                v1::Step::SUBMITTING, v1::Step::READY, v1::Step::WAITING, v1::Step::SUCCEEDED, v1::Step::CACHED,
                v1::Step::CANCELLED, v1::Step::SKIPPED}) {
    const std::string& name = v1::Step::State_Name(static_cast<v1::Step::State>(i));
    const auto it = counts.find(name);
    if (it != counts.end() && it->second > 0)
      parts.push_back(absl::StrCat(it->second, " ", absl::AsciiStrToLower(name)));
  }
  return absl::StrJoin(parts, ", ");
}

int64_t EndedSteps(const google::protobuf::Map<std::string, int64_t>& counts) {
  int64_t ended = 0;
  for (const char* name : {"SUCCEEDED", "CACHED", "FAILED", "CANCELLED", "SKIPPED"}) {
    const auto it = counts.find(name);
    if (it != counts.end()) ended += it->second;
  }
  return ended;
}

std::optional<std::pair<std::string, std::string>> KeyValue(absl::string_view text) {
  const size_t at = text.find('=');
  if (at == absl::string_view::npos || at == 0) return std::nullopt;
  return std::make_pair(std::string(text.substr(0, at)), std::string(text.substr(at + 1)));
}

std::optional<std::string> Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  // Nobody meant that by any word of ours; the table above would only grow.
  if (word.size() > 100) return best;
  int best_distance = std::max(1, static_cast<int>(word.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = Distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace orch::cli
