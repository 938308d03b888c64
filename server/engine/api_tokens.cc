#include "server/engine/api_tokens.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch {
namespace {

constexpr absl::string_view kPrefix = "orch_";
constexpr size_t kLength = 5 + 43;
constexpr int64_t kHourMicros = int64_t{3600} * 1'000'000;

absl::Status Invalid() {
  return Error(absl::StatusCode::kUnauthenticated, "TOKEN_INVALID", "this token is not, or no longer, valid");
}

}  // namespace

std::string ApiTokens::MakeValue() {
  std::string text = absl::WebSafeBase64Escape(RandomBytes(32));
  while (!text.empty() && text.back() == '=') text.pop_back();
  return absl::StrCat(kPrefix, text);
}

std::string ApiTokens::DigestOf(absl::string_view value) { return Sha256Of(value); }

void ApiTokens::Load(const std::vector<ApiTokenRow>& rows) {
  for (const ApiTokenRow& row : rows) Put(row);
}

void ApiTokens::Put(const ApiTokenRow& row) {
  MutexLock lock(&mutex_);
  const auto old = by_name_.find(row.name);
  if (old != by_name_.end()) names_.erase(old->second.digest);
  by_name_[row.name] = row;
  names_[row.digest] = row.name;
}

absl::Status ApiTokens::Judge(const ApiTokenRow& row, int64_t now) {
  if (row.revoked != 0) {
    return Error(absl::StatusCode::kUnauthenticated, "TOKEN_REVOKED",
                 absl::StrCat("the token `", row.name, "` was revoked at ", FormatTime(row.revoked),
                              "; ask whoever runs the daemon for another (orchctl create-token)"));
  }
  if (row.expires != 0 && row.expires <= now) {
    return Error(absl::StatusCode::kUnauthenticated, "TOKEN_EXPIRED",
                 absl::StrCat("the token `", row.name, "` expired at ", FormatTime(row.expires),
                              "; ask whoever runs the daemon for another (orchctl create-token)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenIdentity> ApiTokens::Find(absl::string_view value, int64_t now) const {
  // Its length is known to all. What is compared afterwards is a digest, which nobody can choose bytes of: how far two
  // of them agree tells nothing of a token.
  if (value.size() != kLength || !absl::StartsWith(value, kPrefix)) return Invalid();
  const std::string digest = DigestOf(value);
  MutexLock lock(&mutex_);
  const auto name = names_.find(digest);
  if (name == names_.end()) return Invalid();
  const ApiTokenRow& row = by_name_.at(name->second);
  RETURN_IF_ERROR(Judge(row, now));
  return TokenIdentity{row.name, row.created, row.scope};
}

absl::Status ApiTokens::Check(const TokenIdentity& token, int64_t now) const {
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(token.name);
  if (found == by_name_.end() || found->second.created != token.created) return Invalid();
  return Judge(found->second, now);
}

bool ApiTokens::NoteUse(const TokenIdentity& token, int64_t now) {
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(token.name);
  if (found == by_name_.end() || found->second.created != token.created) return false;
  const int64_t hour = now / kHourMicros * kHourMicros;
  if (found->second.last_used >= hour) return false;
  found->second.last_used = hour;
  return true;
}

std::vector<ApiTokenRow> ApiTokens::List() const {
  MutexLock lock(&mutex_);
  std::vector<ApiTokenRow> out;
  for (const auto& [name, row] : by_name_) out.push_back(row);
  return out;
}

std::optional<ApiTokenRow> ApiTokens::Get(const std::string& name) const {
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

}  // namespace orch
