#include "backends/kubernetes/api/answer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/utf8.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr size_t kLongestMessage = 4096;
constexpr size_t kMostCauses = 32;
constexpr int64_t kMaxRetryAfterSeconds = 3600;

std::string TextAt(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || !found->is_string() ? "" : found->get<std::string>();
}

std::string Short(absl::string_view text) {
  return ToUtf8(absl::StripAsciiWhitespace(text.substr(0, kLongestMessage)));
}

}  // namespace

bool Answer::refused_for_now() const {
  const auto says = [&](const char* words) { return message.find(words) != std::string::npos; };
  return code == 429 || (code == 500 && says("webhook")) ||
         (code == 403 && (says("exceeded quota") || says("status unknown for quota")));
}

std::string Answer::Words() const {
  if (code == 0) return message.empty() ? "no answer" : message;
  std::string out = absl::StrCat(code, reason.empty() ? "" : " ", reason, message.empty() ? "" : ": ", message);
  // Causes are mostly in the message already.
  for (const Cause& cause : causes) {
    if (cause.message.empty() || message.find(cause.message) != std::string::npos) continue;
    absl::StrAppend(&out, "; ", cause.field, cause.field.empty() ? "" : ": ", cause.message);
  }
  return out;
}

void ReadStatus(const json& status, Answer* out) {
  if (!status.is_object()) return;
  out->reason = Short(TextAt(status, "reason"));
  out->message = Short(TextAt(status, "message"));
  const auto details = status.find("details");
  if (details == status.end() || !details->is_object()) return;
  if (const auto seconds = details->find("retryAfterSeconds");
      seconds != details->end() && seconds->is_number_integer()) {
    const int64_t value = std::clamp<int64_t>(seconds->get<int64_t>(), 0, kMaxRetryAfterSeconds);
    out->retry_after = std::max(out->retry_after, value * 1'000'000);
  }
  const auto causes = details->find("causes");
  if (causes == details->end() || !causes->is_array()) return;
  for (const json& cause : *causes) {
    if (!cause.is_object() || out->causes.size() == kMostCauses) continue;
    out->causes.push_back(
        {Short(TextAt(cause, "reason")), Short(TextAt(cause, "message")), Short(TextAt(cause, "field"))});
  }
}

Answer ReadAnswer(HttpAnswer answer, bool needs_object) {
  Answer out;
  out.code = answer.status;
  out.unheard = answer.unheard;
  out.begun = answer.begun;
  out.warnings = std::move(answer.warnings);
  int64_t seconds = 0;
  if (absl::SimpleAtoi(answer.retry_after, &seconds)) {
    out.retry_after = std::clamp<int64_t>(seconds, 0, kMaxRetryAfterSeconds) * 1'000'000;
  }
  if (out.code == 0) {
    out.message = Short(answer.failure);
    return out;
  }
  json body = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  if (out.ok()) {
    if (body.is_object()) {
      out.object = std::move(body);
      return out;
    }
    if (answer.body.empty() && !needs_object) {
      out.object = json::object();
      return out;
    }
    out.code = 0;  // what was asked for may have happened, and what it was is not known
    out.message = "the answer is no JSON object; is this an API server?";
    return out;
  }
  if (body.is_object() && TextAt(body, "kind") == "Status") {
    ReadStatus(body, &out);
  } else {
    out.message = Short(answer.body);  // of priority and fairness, and of proxies: plain text
  }
  return out;
}

std::string MetadataText(const json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto metadata = object.find("metadata");
  return metadata == object.end() || !metadata->is_object() ? "" : TextAt(*metadata, name);
}

}  // namespace orch::kubernetes
