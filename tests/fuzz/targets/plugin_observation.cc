// What a plug-in says of a job: what has no fault has an end that the daemon has a word for, and bounded texts.
#include "backends/plugin/convert.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::plugin::v1::Observation observation;
  if (!observation.ParseFromArray(data, static_cast<int>(size))) return 0;
  if (!orch::plugin::FaultOf(observation).empty() || !observation.has_end()) return 0;
  const orch::AttemptEnd end = orch::plugin::ToEnd(observation.end());
  REQUIRE(end.message.size() <= 8 << 10);
  REQUIRE(end.reason == orch::Reason::kNone ? end.exit_code == 0 : true);
  REQUIRE(end.reason != orch::Reason::kExitCode || end.exit_code.value_or(0) != 0);
  REQUIRE(end.reason != orch::Reason::kSignaled || end.signal.has_value());
  REQUIRE(end.peak_memory >= 0 && end.started_wall >= 0 && end.ended_wall >= 0 && end.cpu_seconds >= 0);
  return 0;
}
