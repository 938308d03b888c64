// The daemon's configuration: a faultless text, written as the whole configuration, says the same again.
#include "server/config/config.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(orch::fuzz::View(data, size));
  orch::config::Config config;
  const std::vector<std::string> faults = orch::config::ReadYaml(text, "f.yaml", &config);
  for (const std::string& fault : faults) REQUIRE(fault.rfind("f.yaml:", 0) == 0);
  if (!faults.empty()) return 0;
  const std::string whole = orch::config::ToYaml(config);
  orch::config::Config again;
  REQUIRE(orch::config::ReadYaml(whole, "whole.yaml", &again).empty());
  REQUIRE(orch::config::ToYaml(again) == whole);
  const bool good = orch::config::Finish(&config).empty();
  if (good) {
    REQUIRE(!config.data_dir.empty() && config.data_dir[0] == '/');
    orch::config::Config finished = config;
    REQUIRE(orch::config::Finish(&finished).empty());  // what is finished stays as it is
    REQUIRE(orch::config::ToYaml(finished) == orch::config::ToYaml(config));
  }
  return 0;
}
