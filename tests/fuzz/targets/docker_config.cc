// The configuration of an orchestrator of flavor local_docker, and the settings of its steps.
#include "backends/docker/config.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto view = orch::fuzz::View(data, size);
  const std::string text(view.data(), view.size());
  const auto config = orch::docker::ReadConfig(text);
  if (config.ok()) REQUIRE(config->capacity.cpu_millis.has_value() && config->capacity.memory >= 0);
  std::vector<std::string> faults;
  const orch::docker::Settings settings = orch::docker::ReadSettings({}, text, &faults);
  for (const orch::docker::Mount& mount : settings.mounts) REQUIRE(!mount.source.empty() && mount.target[0] == '/');
  return 0;
}
