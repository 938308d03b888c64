// Tokens of clients: how they are made, judged and revoked.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/log.h"
#include "server/engine/engine_impl.h"

namespace orch {
namespace {
constexpr int64_t kHourMicros = int64_t{3600} * 1'000'000;

// What RevokeToken needs to answer again.
std::string AnswerOf(const ApiTokenRow& row) {
  return absl::StrCat(static_cast<int>(row.scope), " ", row.created, " ", row.expires, " ", row.last_used, " ",
                      row.revoked);
}

absl::StatusOr<ApiTokenRow> FromAnswer(const std::string& name, absl::string_view answer) {
  ApiTokenRow row;
  row.name = name;
  int scope = 0;
  const std::vector<absl::string_view> parts = absl::StrSplit(answer, ' ');
  if (parts.size() != 5 || !absl::SimpleAtoi(parts[0], &scope) || !absl::SimpleAtoi(parts[1], &row.created) ||
      !absl::SimpleAtoi(parts[2], &row.expires) || !absl::SimpleAtoi(parts[3], &row.last_used) ||
      !absl::SimpleAtoi(parts[4], &row.revoked)) {
    return absl::InternalError("the answer of a RevokeToken cannot be read");
  }
  row.scope = static_cast<TokenScope>(scope);
  return row;
}

}  // namespace

absl::StatusOr<std::pair<ApiTokenRow, std::string>> EngineImpl::CreateToken(const std::string& name, TokenScope scope,
                                                                            int64_t lifetime_micros,
                                                                            int64_t deadline_micros) {
  RETURN_IF_ERROR(RefuseWhenFull());
  MutexLock change(&component_changes_);
  const int64_t now = Clock::Real().Now().wall;
  const std::optional<ApiTokenRow> old = api_tokens_.Get(name);
  if (old.has_value() && old->revoked == 0 && (old->expires == 0 || old->expires > now)) {
    return Error(absl::StatusCode::kAlreadyExists, "TOKEN_EXISTS",
                 absl::StrCat("there is a token `", name, "`, whose value was shown when it was made; choose another ",
                              "name, or revoke it first (orchctl revoke-token ", name, ")"));
  }
  const auto count = static_cast<int64_t>(api_tokens_.List().size());
  if (!old.has_value() && count >= options_.limits.api_tokens) {
    return Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_TOKENS",
                 absl::StrCat("there are ", count, " tokens (limit api_tokens); a name whose token has expired or was ",
                              "revoked can be used again"));
  }
  const std::string value = ApiTokens::MakeValue();
  ApiTokenRow row;
  row.name = name;
  row.digest = ApiTokens::DigestOf(value);
  row.scope = scope;
  // Also if the clock was set back: it tells this token from the one before.
  row.created = old.has_value() ? std::max(now, old->created + 1) : now;
  row.expires = lifetime_micros == 0 ? 0 : now + lifetime_micros;
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->api_tokens.push_back(row);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  api_tokens_.Put(row);
  Log(LogLevel::kInfo, "token created",
      {{"token", name}, {"scope", scope == TokenScope::kFull ? "full" : "read"}, {"expires", row.expires}});
  return std::make_pair(std::move(row), value);
}

absl::StatusOr<ApiTokenRow> EngineImpl::RevokeToken(const std::string& name, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return FromAnswer(name, *asked.answer);
  MutexLock change(&component_changes_);
  std::optional<ApiTokenRow> row = api_tokens_.Get(name);
  if (!row.has_value()) {
    return Error(absl::StatusCode::kNotFound, "TOKEN_NOT_FOUND",
                 absl::StrCat("there is no token `", name, "`; `orchctl list-tokens` shows all"));
  }
  const ApiTokenRow before = *row;
  // If not, it was revoked by a call that may not have seen its commit: this one answers behind that.
  const bool changes = row->revoked == 0;
  Post post;
  post.rows = std::make_unique<Batch>();
  if (changes) {
    row->revoked = Clock::Real().Now().wall;
    // Refused from here on: what is seen before the commit is only that it is shut.
    api_tokens_.Put(*row);
    post.rows->api_tokens.push_back(*row);
  }
  Remember(std::move(asked), AnswerOf(*row), &post);  // also if there was nothing to do: its name may be used again
  if (const absl::Status committed = PostAndWait(std::move(post), deadline_micros); !committed.ok()) {
    if (committed.code() != absl::StatusCode::kDeadlineExceeded) api_tokens_.Put(before);  // else it may still happen
    return committed;
  }
  if (changes) Log(LogLevel::kInfo, "token revoked", {{"token", name}});
  return *row;
}

absl::StatusOr<TokenIdentity> EngineImpl::AuthenticateToken(absl::string_view value) {
  const int64_t now = Clock::Real().Now().wall;
  ASSIGN_OR_RETURN(TokenIdentity token, api_tokens_.Find(value, now));
  NoteTokenUse(token, now);
  return token;
}

absl::Status EngineImpl::CheckToken(const TokenIdentity& token) {
  return api_tokens_.Check(token, Clock::Real().Now().wall);
}

// Nobody waits for it: after a crash the last use may be an hour older than it was.
void EngineImpl::NoteTokenUse(const TokenIdentity& token, int64_t now) {
  if (!api_tokens_.NoteUse(token, now)) return;
  Post post;
  post.rows = std::make_unique<Batch>();
  post.rows->token_uses.push_back({token.name, token.created, now / kHourMicros * kHourMicros});
  post.lazy = true;
  (void)mailbox_.Offer(std::move(post));  // full or closed: the next hour will do
}

}  // namespace orch
