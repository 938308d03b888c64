// A plug-in's schema on the first line, a value behind it: whatever is taken can be judged, and judged alike when the
// value is written again.
#include <nlohmann/json.hpp>

#include "backends/plugin/schema.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(orch::fuzz::View(data, size));
  const std::string schema = text.substr(0, text.find('\n'));
  const std::string value = schema.size() == text.size() ? "" : text.substr(schema.size() + 1);
  std::vector<std::string> wrong;
  orch::plugin::CheckSchema(schema, &wrong);
  if (!wrong.empty()) return 0;
  const auto faults = orch::plugin::Validate(schema, value, "config");
  REQUIRE(faults.size() <= 100);
  for (const orch::Violation& fault : faults) {
    REQUIRE(fault.field.compare(0, 6, "config") == 0);
    REQUIRE(!fault.description.empty() && !fault.reason.empty());
  }
  const auto parsed = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return 0;
  const std::string again = parsed.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (parsed != nlohmann::json::parse(again, nullptr, /*allow_exceptions=*/false)) return 0;  // it was no UTF-8
  REQUIRE(orch::plugin::Validate(schema, again, "config").size() == faults.size());
  return 0;
}
