// AuthService's calls, for every transport. A token's value is in one answer and nowhere else: no error or log has it.
#pragma once

#include "orch/v1/auth_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class AuthApi {
 public:
  explicit AuthApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status CreateToken(const CallContext& context, const v1::CreateTokenRequest& request,
                           v1::CreateTokenResponse* response);
  absl::Status ListTokens(const CallContext& context, const v1::ListTokensRequest& request,
                          v1::ListTokensResponse* response);
  absl::Status RevokeToken(const CallContext& context, const v1::RevokeTokenRequest& request, v1::Token* token);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
