#include "server/rpc/secret_api.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/asked.h"
#include "server/rpc/checks.h"
#include "server/rpc/convert_rows.h"
#include "server/rpc/tokens.h"

namespace orch::rpc {

void SecretApi::Register(MethodTable* table) {
  const MethodTraits mutation{/*mutates=*/true, /*for_steps=*/false, /*waits=*/false};
  table->Add("orch.v1.SecretService/SetSecret", mutation, this, &SecretApi::SetSecret);
  table->Add("orch.v1.SecretService/ListSecrets", {}, this, &SecretApi::ListSecrets);
  table->Add("orch.v1.SecretService/DeleteSecret", mutation, this, &SecretApi::DeleteSecret);
}

absl::Status SecretApi::SetSecret(const CallContext& context, const v1::SetSecretRequest& request, v1::Secret* secret) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  checks.RequestId(request.request_id());
  checks.Name("request.name", request.name(), /*dots=*/true);
  const std::string& value = request.text().empty() ? request.data() : request.text();
  if (value.empty()) {
    checks.Add("request.text", "REQUIRED", "a secret needs a value, as `text` or as `data`");
  } else if (!request.text().empty() && !request.data().empty()) {
    checks.Add("request.data", "WRONG_TYPE", "the value is there as `text` and as `data`; give one");
  } else if (static_cast<int64_t>(value.size()) > api_.engine->limits().secret_bytes) {
    checks.Add("request.text", "TOO_LARGE",
               absl::StrCat("the value has ", value.size(), " bytes; at most ", api_.engine->limits().secret_bytes,
                            " (limit secret_bytes)"));
  }
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "the secret was not set"));
  RequestRow once = RequestRowOf("SetSecret", project, v1::SetSecretRequest());
  once.request_id = request.request_id();
  once.fingerprint = api_.engine->SecretFingerprintOf(
      absl::StrCat(request.name(), "\n", request.text().empty() ? "data" : "text", "\n", value));
  ASSIGN_OR_RETURN(Asked asked, api_.engine->Ask(std::move(once)));
  ASSIGN_OR_RETURN(const SecretRow row,
                   api_.engine->SetSecret(project, request.name(), value, std::move(asked), context.deadline_micros));
  *secret = ToSecret(row);
  return absl::OkStatus();
}

absl::Status SecretApi::ListSecrets(const CallContext&, const v1::ListSecretsRequest& request,
                                    v1::ListSecretsResponse* response) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  ASSIGN_OR_RETURN(const int limit, PageSize(request.page_size(), 50));
  const std::string bound = absl::StrCat("secrets|", project);
  ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), bound));
  ASSIGN_OR_RETURN(const auto rows, api_.engine->queries().ListSecrets(project));
  for (const SecretRow& row : rows) {
    if (row.name <= after) continue;
    if (response->secrets_size() == limit) {
      response->set_next_page_token(MakePageToken(response->secrets(limit - 1).name(), bound));
      break;
    }
    *response->add_secrets() = ToSecret(row);
  }
  return absl::OkStatus();
}

absl::Status SecretApi::DeleteSecret(const CallContext& context, const v1::DeleteSecretRequest& request,
                                     v1::DeleteSecretResponse*) {
  ASSIGN_OR_RETURN(const std::string project, ProjectOf(request.project()));
  Checks checks;
  checks.RequestId(request.request_id());
  if (request.name().empty()) checks.Add("request.name", "REQUIRED", "which secret? give its name");
  RETURN_IF_ERROR(checks.ToStatus("REQUEST_INVALID", "no secret was deleted"));
  ASSIGN_OR_RETURN(Asked asked, Ask(api_.engine, "DeleteSecret", request));
  return api_.engine->DeleteSecret(project, request.name(), request.force(), std::move(asked), context.deadline_micros);
}

}  // namespace orch::rpc
