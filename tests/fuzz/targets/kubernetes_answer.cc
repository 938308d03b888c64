// What an API server, a proxy before it, or a program that gives credentials says: texts are bounded, a pause is, and a
// credential can stand in a header.
#include "backends/kubernetes/api/answer.h"
#include "backends/kubernetes/api/exec_credential.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = orch::fuzz::Parts(orch::fuzz::View(data, size), 2);
  orch::kubernetes::HttpAnswer http;
  http.status = size % 3 == 0 ? 200 : 409;
  http.retry_after = parts[0];
  http.body = parts[1];
  const auto answer = orch::kubernetes::ReadAnswer(http);
  REQUIRE(answer.retry_after >= 0 && answer.retry_after <= int64_t{3600} * 1'000'000);
  REQUIRE(answer.message.size() <= 3 * 4096 + 100 && answer.causes.size() <= 32);
  REQUIRE(answer.ok() || !answer.Words().empty());
  const auto credential = orch::kubernetes::ParseExecCredential(parts[1], "client.authentication.k8s.io/v1");
  if (!credential.ok()) return 0;
  REQUIRE(!credential->token.empty() || !credential->certificate_pem.empty());
  REQUIRE(credential->certificate_pem.empty() == credential->key_pem.empty());
  REQUIRE(credential->token.find_first_of("\r\n") == std::string::npos && credential->expires >= 0);
  return 0;
}
