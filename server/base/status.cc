#include "server/base/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace orch {
namespace {

constexpr char kReason[] = "orchd/reason";
constexpr char kViolations[] = "orchd/violations";
constexpr char kRetry[] = "orchd/retry";
constexpr char kFact[] = "orchd/fact";
// Separators of ASCII that no text of ours contains.
constexpr char kUnit = '\x1f';
constexpr char kRecord = '\x1e';

std::string Clean(absl::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == kUnit || c == kRecord) c = '?';
  }
  return out;
}

std::string PayloadOf(const absl::Status& status, const char* url) {
  auto payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace

absl::Status Error(absl::StatusCode code, absl::string_view reason, absl::string_view message) {
  absl::Status status(code, message);
  status.SetPayload(kReason, absl::Cord(reason));
  return status;
}

absl::Status InvalidInput(absl::string_view reason, absl::string_view message,
                          const std::vector<Violation>& violations) {
  absl::Status status = Error(absl::StatusCode::kInvalidArgument, reason, message);
  std::string packed;
  for (const Violation& v : violations) {
    absl::StrAppend(&packed, Clean(v.field), std::string(1, kUnit), Clean(v.description), std::string(1, kUnit),
                    Clean(v.reason), std::string(1, kRecord));
  }
  status.SetPayload(kViolations, absl::Cord(packed));
  return status;
}

std::string ReasonOf(const absl::Status& status) { return PayloadOf(status, kReason); }

std::vector<Violation> ViolationsOf(const absl::Status& status) {
  std::vector<Violation> out;
  const std::string packed = PayloadOf(status, kViolations);
  for (absl::string_view record : absl::StrSplit(packed, kRecord, absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(record, kUnit);
    if (parts.size() == 3) out.push_back({parts[0], parts[1], parts[2]});
  }
  return out;
}

absl::Status WithRetryDelay(absl::Status status, int64_t milliseconds) {
  status.SetPayload(kRetry, absl::Cord(absl::StrCat(milliseconds)));
  return status;
}

int64_t RetryDelayOf(const absl::Status& status) {
  int64_t value = 0;
  return absl::SimpleAtoi(PayloadOf(status, kRetry), &value) ? value : 0;
}

absl::Status WithFact(absl::Status status, absl::string_view name, absl::string_view value) {
  status.SetPayload(kFact, absl::Cord(absl::StrCat(Clean(name), std::string(1, kUnit), value)));
  return status;
}

std::pair<std::string, std::string> FactOf(const absl::Status& status) {
  const std::string packed = PayloadOf(status, kFact);
  const size_t at = packed.find(kUnit);
  if (at == std::string::npos) return {};
  return {packed.substr(0, at), packed.substr(at + 1)};
}

}  // namespace orch
