// SecretService's calls, for every transport. A value is in a request and nowhere else: no answer, error or log has it.
#pragma once

#include "orch/v1/secret_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class SecretApi {
 public:
  explicit SecretApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status SetSecret(const CallContext& context, const v1::SetSecretRequest& request, v1::Secret* secret);
  absl::Status ListSecrets(const CallContext& context, const v1::ListSecretsRequest& request,
                           v1::ListSecretsResponse* response);
  absl::Status DeleteSecret(const CallContext& context, const v1::DeleteSecretRequest& request,
                            v1::DeleteSecretResponse* response);

 private:
  const ApiContext& api_;
};

}  // namespace orch::rpc
