// A run's parameters: what fits its type comes out with the value it had, and is JSON.
#include "server/engine/parameters.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/engine/render.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte is the type, the rest what was given and, after a line of dashes, the default.
  const auto type = static_cast<orch::ParameterType>(data[0] % 6);
  const std::vector<std::string> parts = orch::fuzz::Parts(orch::fuzz::View(data + 1, size - 1), 2);
  orch::PipelineSpec spec;
  spec.name = "p";
  spec.parameters.push_back({"a", type, std::nullopt});
  if (!parts[1].empty()) spec.parameters[0].default_json = parts[1];
  std::map<std::string, std::string> given;
  if (!parts[0].empty()) given["a"] = parts[0];
  const orch::FilledParameters filled = orch::FillParameters(spec, given, data[0] >= 128);
  const auto object = nlohmann::json::parse(filled.json, nullptr, false);
  REQUIRE(object.is_object());
  for (const orch::Violation& v : filled.violations) REQUIRE(!v.reason.empty() && !v.description.empty());
  if (object.contains("a")) {
    REQUIRE(filled.violations.empty());
    const auto source = nlohmann::json::parse(given.empty() ? parts[1] : parts[0], nullptr, false);
    REQUIRE(object["a"] == source || (source.is_number_float() && std::isnan(source.get<double>())));
    if (type == orch::ParameterType::kInt) REQUIRE(object["a"].is_number_integer());
  }
  (void)orch::PlainText(parts[0]);
  return 0;
}
