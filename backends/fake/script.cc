#include "backends/fake/script.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace orch::fake {
namespace {

using Json = nlohmann::json;
using Faults = std::vector<std::string>;

// A number and one of the suffixes; nullopt if it is neither.
std::optional<double> WithSuffix(const std::string& text, const std::map<std::string, double>& suffixes) {
  const size_t digits = text.find_first_not_of("0123456789.");
  double number = 0;
  if (digits == 0 || !absl::SimpleAtod(text.substr(0, digits), &number)) return std::nullopt;
  const auto found = suffixes.find(digits == std::string::npos ? "" : text.substr(digits));
  if (found == suffixes.end()) return std::nullopt;
  const double value = number * found->second;
  return std::isfinite(value) && value < 9e18 ? std::optional<double>(value) : std::nullopt;
}

// A whole number that is not negative and stays so as an int64_t.
bool IsCount(const Json& value) { return value.is_number_integer() && value >= 0 && value <= INT64_MAX; }

// One object's fields; every field is asked for once, the rest is refused.
class Fields {
 public:
  Fields(const Json& object, std::string prefix, Faults* faults)
      : object_(object), prefix_(std::move(prefix)), faults_(faults) {}

  const Json* Get(const std::string& key) {
    known_.push_back(key);
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  void Fault(const std::string& key, absl::string_view what) {
    faults_->push_back(absl::StrCat(prefix_, key, ": ", what));
  }
  void Duration(const std::string& key, int64_t* micros) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    if (IsCount(*value)) {
      *micros = value->get<int64_t>();
      return;
    }
    static const std::map<std::string, double> kUnits = {{"us", 1},   {"ms", 1e3},   {"s", 1e6},
                                                         {"m", 60e6}, {"h", 3600e6}, {"d", 86400e6}};
    const auto parsed = value->is_string() ? WithSuffix(value->get<std::string>(), kUnits) : std::nullopt;
    if (!parsed) return Fault(key, "must be a duration such as `10ms`, or microseconds");
    *micros = static_cast<int64_t>(*parsed);
  }
  void Int(const std::string& key, int min, int max, int* out) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    if (!value->is_number_integer() || *value < min || *value > max) {
      return Fault(key, absl::StrCat("must be a whole number from ", min, " to ", max));
    }
    *out = value->get<int>();
  }
  void Bool(const std::string& key, bool* out) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return Fault(key, "must be true or false");
    *out = value->get<bool>();
  }
  void Path(const std::string& key, std::string* out) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    if (!value->is_string()) return Fault(key, "must be the path of a file");
    *out = value->get<std::string>();
  }
  template <typename T>
  void Word(const std::string& key, const std::map<std::string, T>& words, T* out) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    const auto found = value->is_string() ? words.find(value->get<std::string>()) : words.end();
    if (found != words.end()) {
      *out = found->second;
      return;
    }
    std::string known;
    for (const auto& [word, unused] : words) absl::StrAppend(&known, known.empty() ? "" : ", ", word);
    Fault(key, absl::StrCat("must be one of ", known));
  }
  void RefuseOthers() {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) Fault(key, "is no field of the fake flavor");
    }
  }

 private:
  const Json& object_;
  const std::string prefix_;
  Faults* const faults_;
  std::vector<std::string> known_;
};

void ReadScript(Fields& fields, Script* script) {
  fields.Duration("start_delay", &script->start_delay_micros);
  fields.Duration("duration", &script->duration_micros);
  fields.Path("gate", &script->gate);
  fields.Word<Outcome>("outcome",
                       {{"success", Outcome::kSuccess},
                        {"fail", Outcome::kFail},
                        {"lost", Outcome::kLost},
                        {"oom", Outcome::kOutOfMemory},
                        {"unschedulable", Outcome::kUnschedulable}},
                       &script->outcome);
  fields.Int("exit_code", 1, 255, &script->exit_code);
  fields.Int("fail_attempts", 0, 1'000'000, &script->fail_attempts);
  fields.Word<Refusal>(
      "refuse", {{"none", Refusal::kNone}, {"transient", Refusal::kTransient}, {"permanent", Refusal::kPermanent}},
      &script->refuse);
  fields.Int("refuse_attempts", 0, 1'000'000, &script->refuse_attempts);
  fields.Bool("unknown", &script->unknown);
  fields.Bool("ignore_cancel", &script->ignore_cancel);
  if (const Json* output = fields.Get("output")) {
    if (output->is_string()) {
      script->output = output->get<std::string>();
    } else {
      script->output = output->dump();  // a JSON value, for outputs that are values
    }
  }
}

Capacity ReadCapacity(const Json& object, Faults* faults) {
  Capacity capacity;
  Fields fields(object, "capacity.", faults);
  if (const Json* cpu = fields.Get("cpu")) {
    if (cpu->is_number() && *cpu >= 0 && *cpu <= 1e9) {
      capacity.cpu_millis = static_cast<int64_t>(std::llround(cpu->get<double>() * 1000));
    } else {
      fields.Fault("cpu", "must be a number of CPUs");
    }
  }
  if (const Json* memory = fields.Get("memory")) {
    static const std::map<std::string, double> kUnits = {
        {"", 1},     {"K", 1e3},   {"M", 1e6},   {"G", 1e9},      {"T", 1e12},        {"KB", 1e3},          {"MB", 1e6},
        {"GB", 1e9}, {"TB", 1e12}, {"Ki", 1024}, {"Mi", 1048576}, {"Gi", 1073741824}, {"Ti", 1099511627776}};
    const auto bytes = memory->is_string() ? WithSuffix(memory->get<std::string>(), kUnits) : std::nullopt;
    if (IsCount(*memory)) {
      capacity.memory = memory->get<int64_t>();
    } else if (bytes) {
      capacity.memory = static_cast<int64_t>(*bytes);
    } else {
      fields.Fault("memory", "must be bytes, or a size such as `2Gi`");
    }
  }
  if (const Json* gpu = fields.Get("gpu")) {
    if (IsCount(*gpu)) {
      capacity.gpu = gpu->get<int64_t>();
    } else {
      fields.Fault("gpu", "must be a whole number");
    }
  }
  fields.RefuseOthers();
  return capacity;
}

// The object in `json`; an empty one after a fault.
Json ParseObject(absl::string_view json, const std::string& field, Faults* faults) {
  if (json.empty()) return Json::object();
  Json parsed = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object()) return parsed;
  faults->push_back(absl::StrCat(field, ": must be a JSON object"));
  return Json::object();
}

constexpr char kDuration[] = R"({"type":["string","integer"],"description":"10ms, 2s, or microseconds"})";

Json ScriptProperties() {
  Json p;
  p["duration"] = p["start_delay"] = Json::parse(kDuration);
  p["gate"] = {{"type", "string"}, {"description", "a file: an attempt does not end before it is there"}};
  p["outcome"]["enum"] = {"success", "fail", "lost", "oom", "unschedulable"};
  p["exit_code"] = {{"type", "integer"}, {"minimum", 1}, {"maximum", 255}};
  p["fail_attempts"] = p["refuse_attempts"] = {{"type", "integer"}, {"minimum", 0}};
  p["refuse"]["enum"] = {"none", "transient", "permanent"};
  p["unknown"] = p["ignore_cancel"] = {{"type", "boolean"}};
  p["output"] = {{"description", "what is written to every output; a value that is no string is written as JSON"}};
  return p;
}

std::string Schema(Json properties) {
  Json schema = {{"type", "object"}, {"additionalProperties", false}};
  schema["properties"] = std::move(properties);
  return schema.dump();
}

}  // namespace

Outcome Script::OutcomeOf(uint32_t attempt) const {
  if (fail_attempts == 0) return outcome;
  if (attempt > static_cast<uint32_t>(fail_attempts)) return Outcome::kSuccess;
  return outcome == Outcome::kSuccess ? Outcome::kFail : outcome;
}

Script ParseScript(absl::string_view json, const Script& defaults, Faults* faults) {
  Script script = defaults;
  const Json object = ParseObject(json, "settings.fake", faults);
  Fields fields(object, "settings.fake.", faults);
  ReadScript(fields, &script);
  fields.RefuseOthers();
  return script;
}

Config ParseConfig(absl::string_view json, Faults* faults) {
  Config config;
  const Json object = ParseObject(json, "config", faults);
  Fields fields(object, "", faults);
  ReadScript(fields, &config.defaults);
  fields.Bool("survive", &config.survive);
  fields.Path("down", &config.down);
  if (const Json* capacity = fields.Get("capacity")) {
    if (capacity->is_object()) {
      config.capacity = ReadCapacity(*capacity, faults);
    } else {
      fields.Fault("capacity", "must be an object with cpu, memory or gpu");
    }
  }
  fields.RefuseOthers();
  return config;
}

std::string SettingsSchema() { return Schema(ScriptProperties()); }

std::string ConfigSchema() {
  Json p = ScriptProperties();
  p["survive"] = {{"type", "boolean"}};
  p["down"] = {{"type", "string"}, {"description", "a file: while it is there, the platform refuses all for now"}};
  p["capacity"] = {{"type", "object"}, {"additionalProperties", false}};
  p["capacity"]["properties"] = {
      {"cpu", {{"type", "number"}}}, {"memory", {{"type", {"string", "integer"}}}}, {"gpu", {{"type", "integer"}}}};
  return Schema(std::move(p));
}

}  // namespace orch::fake
