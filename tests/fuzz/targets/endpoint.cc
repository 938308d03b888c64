// Addresses that a launcher is given: what is read has no byte that a header may not have, and reads the same again.
#include "client/launch/endpoint.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::launch::Endpoint;
  const std::string text(orch::fuzz::View(data, size));
  Endpoint endpoint;
  std::string target;
  if (!orch::launch::ParseUrl(text, &endpoint, &target) || !endpoint.socket.empty()) return 0;
  for (const std::string& part : {endpoint.host, endpoint.port, target}) {
    for (const char c : part) REQUIRE(static_cast<unsigned char>(c) > ' ');
  }
  Endpoint again;
  std::string same;
  REQUIRE(
      orch::launch::ParseUrl((endpoint.tls ? "https://" : "http://") + endpoint.authority() + target, &again, &same));
  REQUIRE(again.host == endpoint.host && again.tls == endpoint.tls && same == target);
  return 0;
}
