#include "server/engine/parameters.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace orch {
namespace {

using nlohmann::json;

constexpr double kMaxExact = 9007199254740992.0;  // 2^53: beyond it a JSON number may be another one

// Empty if `value` is of the type.
std::string WrongType(ParameterType type, const json& value) {
  switch (type) {
    case ParameterType::kUnset:
    case ParameterType::kJson:
      return "";
    case ParameterType::kString:
      return value.is_string() ? "" : "a string";
    case ParameterType::kBool:
      return value.is_boolean() ? "" : "true or false";
    case ParameterType::kFloat:
      return value.is_number() ? "" : "a number";
    case ParameterType::kInt:
      if (value.is_number() && std::floor(value.get<double>()) == value.get<double>() &&
          std::fabs(value.get<double>()) <= kMaxExact) {
        return "";
      }
      return "a whole number of at most 2^53";
  }
  return "";
}

// An int that came as 3.0 is 3.
json Normal(ParameterType type, json value) {
  if (type == ParameterType::kInt && value.is_number_float()) return static_cast<int64_t>(value.get<double>());
  return value;
}

ParameterType TypeOf(const ParameterSpec& spec) {
  if (spec.type != ParameterType::kUnset) return spec.type;
  if (!spec.default_json.has_value()) return ParameterType::kString;
  const json value = json::parse(*spec.default_json, nullptr, false);
  if (value.is_string()) return ParameterType::kString;
  if (value.is_boolean()) return ParameterType::kBool;
  if (value.is_number_integer()) return ParameterType::kInt;
  if (value.is_number()) return ParameterType::kFloat;
  return ParameterType::kJson;
}

}  // namespace

FilledParameters FillParameters(const PipelineSpec& spec, const std::map<std::string, std::string>& given,
                                bool missing_allowed) {
  FilledParameters out;
  json object = json::object();
  const auto add = [&](const std::string& name, absl::string_view reason, const std::string& what) {
    out.violations.push_back({absl::StrCat("parameters.", name), what, std::string(reason)});
  };
  for (const auto& [name, text] : given) {
    bool known = false;
    for (const ParameterSpec& p : spec.parameters) known = known || p.name == name;
    if (!known)
      add(name, "UNKNOWN_REFERENCE", absl::StrCat("pipeline `", spec.name, "` has no parameter `", name, "`"));
  }
  for (const ParameterSpec& parameter : spec.parameters) {
    const ParameterType type = TypeOf(parameter);
    const auto found = given.find(parameter.name);
    const bool is_given = found != given.end();
    if (!is_given && !parameter.default_json.has_value()) {
      if (!missing_allowed) {
        add(parameter.name, "MISSING",
            absl::StrCat("`", parameter.name, "` has no default: give it with --param ", parameter.name, "=…"));
      }
      continue;
    }
    const json value = json::parse(is_given ? found->second : *parameter.default_json, nullptr, false);
    const std::string expected = value.is_discarded() ? "JSON" : WrongType(type, value);
    if (!expected.empty()) {
      add(is_given ? parameter.name : absl::StrCat(parameter.name, ".default"), "WRONG_TYPE",
          absl::StrCat("`", parameter.name, "` must be ", expected, ", not ",
                       value.is_discarded() ? "this" : value.dump()));
      continue;
    }
    object[parameter.name] = Normal(type, value);
  }
  out.json = object.dump(-1, ' ', false, json::error_handler_t::replace);
  return out;
}

}  // namespace orch
