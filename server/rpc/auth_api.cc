#include "server/rpc/auth_api.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/asked.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {
namespace {

constexpr int64_t kSecondMicros = 1'000'000;
constexpr int64_t kLongestMicros = int64_t{10} * 366 * 24 * 3600 * kSecondMicros;

}  // namespace

void AuthApi::Register(MethodTable* table) {
  MethodTraits mutation;
  mutation.mutates = true;
  mutation.for_owner = true;
  MethodTraits reading;
  reading.for_owner = true;
  table->Add("orch.v1.AuthService/CreateToken", mutation, this, &AuthApi::CreateToken);
  table->Add("orch.v1.AuthService/ListTokens", reading, this, &AuthApi::ListTokens);
  table->Add("orch.v1.AuthService/RevokeToken", mutation, this, &AuthApi::RevokeToken);
}

absl::Status AuthApi::CreateToken(const CallContext& context, const v1::CreateTokenRequest& request,
                                  v1::CreateTokenResponse* response) {
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Name("request.name", request.name(), /*dots=*/true);
  if (request.scope() != v1::Token::SCOPE_UNSPECIFIED && request.scope() != v1::Token::READ &&
      request.scope() != v1::Token::FULL) {
    checks.Add("request.scope", "WRONG_TYPE", "there are READ and FULL");
  }
  int64_t lifetime = 0;
  if (request.has_lifetime()) {
    lifetime = checks.Duration("request.lifetime", request.lifetime(), kSecondMicros);
    if (lifetime > kLongestMicros) {
      checks.Add("request.lifetime", "TOO_LARGE", "at most ten years; without it a token does not expire");
    }
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no token was made"));
  const TokenScope scope = request.scope() == v1::Token::READ ? TokenScope::kRead : TokenScope::kFull;
  ASSIGN_OR_RETURN(const auto made, api_.engine->CreateToken(request.name(), scope, lifetime, context.deadline_micros));
  *response->mutable_token() = ToToken(made.first);
  response->set_value(made.second);
  return absl::OkStatus();
}

absl::Status AuthApi::ListTokens(const CallContext&, const v1::ListTokensRequest& request,
                                 v1::ListTokensResponse* response) {
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  const std::string bound = "tokens";
  ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), bound));
  for (const ApiTokenRow& row : api_.engine->ListTokens()) {
    if (row.name <= after) continue;
    if (response->tokens_size() == limit) {
      response->set_next_page_token(MakePageToken(response->tokens(limit - 1).name(), bound));
      break;
    }
    *response->add_tokens() = ToToken(row);
  }
  return absl::OkStatus();
}

absl::Status AuthApi::RevokeToken(const CallContext& context, const v1::RevokeTokenRequest& request, v1::Token* token) {
  Checks checks;
  checks.RequestId(request.request_id());
  if (request.name().empty()) checks.Add("request.name", "REQUIRED", "which token? give its name");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no token was revoked"));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "RevokeToken", request));
  ASSIGN_OR_RETURN(const ApiTokenRow row,
                   api_.engine->RevokeToken(request.name(), std::move(asked), context.deadline_micros));
  *token = ToToken(row);
  return absl::OkStatus();
}

}  // namespace orch::rpc
