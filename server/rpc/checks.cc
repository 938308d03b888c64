#include "server/rpc/checks.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace orch::rpc {
namespace {

constexpr size_t kMaxNameBytes = 200;
constexpr size_t kMaxViolations = 200;
constexpr int64_t kMaxDurationSeconds = 315'576'000'000;  // protobuf's own limit

}  // namespace

std::string Quoted(absl::string_view text) {
  std::string out = "`";
  for (size_t i = 0; i < text.size() && i < 80; ++i) {
    out.push_back(absl::ascii_iscntrl(static_cast<unsigned char>(text[i])) ? '?' : text[i]);
  }
  while (text.size() > 80 && out.size() > 1 && (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80) out.pop_back();
  if (text.size() > 80) {
    if (static_cast<unsigned char>(out.back()) >= 0xC0) out.pop_back();
    out += "…";
  }
  return out + "`";
}

void Checks::Add(absl::string_view field, absl::string_view reason, absl::string_view description) {
  if (violations_.size() < kMaxViolations) {
    violations_.push_back({std::string(field), std::string(description), std::string(reason)});
  }
}

absl::Status Checks::ToStatus(absl::string_view reason, absl::string_view message) const {
  if (violations_.empty()) return absl::OkStatus();
  const Violation& first = violations_.front();
  std::string text =
      absl::StrCat(message, ": ", first.field.empty() ? "" : absl::StrCat(first.field, ": "), first.description);
  if (violations_.size() > 1) absl::StrAppend(&text, " (and ", violations_.size() - 1, " more)");
  return InvalidInput(reason, text, violations_);
}

void Checks::Name(absl::string_view field, absl::string_view name, bool dots) {
  if (name.empty()) {
    Add(field, "REQUIRED", "a name is needed");
    return;
  }
  if (name.size() > kMaxNameBytes) {
    Add(field, "TOO_LARGE", absl::StrCat("the name has ", name.size(), " bytes; at most ", kMaxNameBytes));
    return;
  }
  bool good = absl::ascii_isalnum(static_cast<unsigned char>(name[0]));
  for (const char c : name) {
    good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || (dots && c == '.'));
  }
  if (!good) {
    Add(field, "NAME_INVALID",
        absl::StrCat(Quoted(name), " is no name: use letters, digits, ", dots ? "`_`, `-` and `.`" : "`_` and `-`",
                     ", and begin with a letter or digit"));
  }
}

void Checks::Text(absl::string_view field, absl::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    Add(field, "TOO_LARGE", absl::StrCat("it has ", text.size(), " bytes; at most ", max_bytes));
  } else if (text.find('\0') != absl::string_view::npos) {
    Add(field, "WRONG_TYPE", "it has a zero byte");
  }
}

void Checks::Range(absl::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    Add(field, "OUT_OF_RANGE", absl::StrCat(value, " is not between ", low, " and ", high));
  }
}

void Checks::Range(absl::string_view field, double value, double low, double high) {
  if (!(value >= low && value <= high)) {  // NaN is neither
    Add(field, "OUT_OF_RANGE", absl::StrCat(value, " is not between ", low, " and ", high));
  }
}

void Checks::Count(absl::string_view field, int64_t count, int64_t high) {
  if (count > high) Add(field, "TOO_LARGE", absl::StrCat("there are ", count, "; at most ", high));
}

void Checks::Labels(absl::string_view field, const google::protobuf::Map<std::string, std::string>& labels,
                    int64_t limit) {
  Count(field, static_cast<int64_t>(labels.size()), limit);
  if (static_cast<int64_t>(labels.size()) > limit) return;
  for (const auto& [key, value] : labels) {
    const std::string path = absl::StrCat(field, ".", key.substr(0, kMaxNameBytes));
    if (key.empty()) Add(field, "NAME_INVALID", "a label's key is empty");
    Text(path, key, 200);
    Text(path, value, 1000);
  }
}

int64_t Checks::Duration(absl::string_view field, const google::protobuf::Duration& duration, int64_t low_micros) {
  // Not by abs(): the smallest number has none.
  const auto within = [](int64_t value, int64_t most) { return value >= -most && value <= most; };
  if (!within(duration.nanos(), 999'999'999) || !within(duration.seconds(), kMaxDurationSeconds) ||
      (duration.seconds() > 0 && duration.nanos() < 0) || (duration.seconds() < 0 && duration.nanos() > 0)) {
    Add(field, "WRONG_TYPE", "it is no valid duration");
    return 0;
  }
  const int64_t micros = duration.seconds() * 1'000'000 + duration.nanos() / 1000;
  if (micros < low_micros) {
    Add(field, "OUT_OF_RANGE",
        low_micros == 0 ? std::string("it is negative")
                        : absl::StrCat("it is shorter than ", low_micros / 1000, " ms"));
    return 0;
  }
  return micros;
}

void Checks::RequestId(absl::string_view id) { Text("request.request_id", id, 200); }

void Checks::Project(absl::string_view project) {
  if (!project.empty() && project != "default") {
    Add("request.project", "PROJECT_NOT_FOUND",
        absl::StrCat("there is no project ", Quoted(project), "; the only one is `default`"));
  }
}

}  // namespace orch::rpc
