// Kubeconfigs: the text of a token or key is in no message; what is resolved can stand in an address and in headers;
// what a file says twice counts once.
#include "absl/strings/match.h"
#include "backends/kubernetes/api/kubeconfig.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const auto config = orch::kubernetes::ParseKubeconfig(absl::string_view(view.data(), view.size()), "");
  if (!config.ok()) {
    REQUIRE(!config.status().message().empty());
    return 0;
  }
  orch::kubernetes::Kubeconfig merged = *config;
  orch::kubernetes::MergeKubeconfig(*config, &merged);
  REQUIRE(merged.contexts.size() == config->contexts.size() && merged.users.size() == config->users.size());
  for (auto context : config->contexts) {
    // Files are not read here.
    orch::kubernetes::Kubeconfig one = *config;
    for (auto& [name, fields] : one.clusters) fields.erase("certificate-authority");
    for (auto& [name, user] : one.users) {
      user.fields.erase("client-certificate");
      user.fields.erase("client-key");
    }
    if (context.first.empty()) continue;
    const auto cluster = orch::kubernetes::ResolveContext(one, context.first);
    if (!cluster.ok()) continue;
    REQUIRE(absl::StartsWith(cluster->server.url, "http") && !absl::EndsWith(cluster->server.url, "/"));
    REQUIRE(cluster->server.url.find_first_of(" \r\n?#") == std::string::npos);
    REQUIRE(!cluster->space.empty());
    REQUIRE(cluster->identity.token.find_first_of("\r\n") == std::string::npos);
    for (const std::string& header : cluster->identity.impersonation) {
      REQUIRE(header.find_first_of("\r\n") == std::string::npos);
    }
  }
  return 0;
}
