// Configuration and settings of the flavors, JSON that a client gave: faults name their fields, what is accepted is in
// range. No backend is started.
#include <nlohmann/json.hpp>

#include "backends/fake/script.h"
#include "backends/local/local_backend.h"
#include "server/base/status.h"
#include "tests/fuzz/fuzz.h"

namespace orch {
namespace {

void InRange(const fake::Script& script) {
  REQUIRE(script.start_delay_micros >= 0 && script.duration_micros >= 0);
  REQUIRE(script.exit_code >= 1 && script.exit_code <= 255);
  REQUIRE(script.fail_attempts >= 0 && script.refuse_attempts >= 0);
  for (const uint32_t attempt : {0u, 1u, 4'000'000'000u}) (void)script.OutcomeOf(attempt);
}

void InRange(const Capacity& capacity) {
  for (const auto& amount : {capacity.cpu_millis, capacity.memory, capacity.gpu}) REQUIRE(amount.value_or(0) >= 0);
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string json(orch::fuzz::View(data, size));
  std::vector<std::string> faults;
  const orch::fake::Script script = orch::fake::ParseScript(json, {}, &faults);
  if (faults.empty()) orch::InRange(script);
  for (const std::string& fault : faults) REQUIRE(fault.rfind("settings.fake", 0) == 0);
  faults.clear();
  const orch::fake::Config config = orch::fake::ParseConfig(json, &faults);
  if (faults.empty()) {
    orch::InRange(config.defaults);
    orch::InRange(config.capacity);
  }
  orch::BackendContext context;
  context.config_json = json;
  context.data_dir = "/nonexistent";
  const auto backend = orch::MakeLocalBackend(context);
  if (backend.ok()) {
    orch::InRange((*backend)->capacity());
    (void)(*backend)->Check({}, json);
  } else {
    REQUIRE(orch::ReasonOf(backend.status()) == "CONFIG_INVALID");
    REQUIRE(!orch::ViolationsOf(backend.status()).empty());
  }
  return 0;
}
