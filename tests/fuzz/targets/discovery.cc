// The files of a data directory that clients read: server.json, and the token after a line of dashes.
#include "client/lib/discovery.h"

#include <cstdlib>

#include "server/base/status.h"
#include "tests/fuzz/scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const orch::fuzz::Scratch scratch;
  static const int cleared = [] {
    for (const char* name : {"ORCH_SERVER", "ORCH_TOKEN", "ORCH_TOKEN_FILE", "ORCH_CA", "ORCH_DATA_DIR"})
      unsetenv(name);
    return 0;
  }();
  (void)cleared;
  const std::vector<std::string> parts = orch::fuzz::Parts(orch::fuzz::View(data, size), 2);
  scratch.Write("server.json", parts[0]);
  scratch.Write("token", parts[1]);
  orch::client::DiscoveryOptions options;
  options.data_dir = scratch.dir();
  const auto found = orch::client::Discover(options);
  if (!found.ok()) {
    REQUIRE(!orch::ReasonOf(found.status()).empty());
    return 0;
  }
  for (const char c : found->token) REQUIRE(c > ' ' && c < '\x7f');
  const auto normal = orch::client::NormalAddress(found->address);
  REQUIRE(normal.ok() && *normal == found->address);
  return 0;
}
