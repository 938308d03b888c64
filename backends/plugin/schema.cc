#include "backends/plugin/schema.h"

#include <re2/re2.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace orch::plugin {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 30;
constexpr size_t kMaxFaults = 100;
constexpr absl::string_view kNothing = R"({"type":"object","additionalProperties":false})";
const char* const kTypes[] = {"object", "array", "string", "integer", "number", "boolean", "null"};

json Parse(absl::string_view text) {
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

bool IsWhole(const json& value) {
  return value.is_number_integer() ||
         (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
}

bool IsType(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return IsWhole(value);
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  return type == "null" && value.is_null();
}

// How many characters, not bytes.
int64_t LengthOf(const std::string& text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

class SchemaCheck {
 public:
  explicit SchemaCheck(std::vector<std::string>* faults) : faults_(*faults) {}

  void Check(const json& schema, const std::string& at, int depth) {
    if (schema.is_boolean()) return;
    if (!schema.is_object()) return Add(at, "must be an object or a boolean");
    if (depth > kMaxDepth) return Add(at, absl::StrCat("is nested deeper than ", kMaxDepth));
    for (const auto& [key, value] : schema.items()) {
      const std::string place = absl::StrCat(at, "/", key);
      if (key == "type") {
        Type(value, place);
      } else if (key == "properties") {
        if (!value.is_object()) return Add(place, "must be an object");
        for (const auto& [name, of] : value.items()) Check(of, absl::StrCat(place, "/", name), depth + 1);
      } else if (key == "additionalProperties" || key == "items") {
        Check(value, place, depth + 1);
      } else if (key == "required") {
        if (!value.is_array()) return Add(place, "must be a list of names");
        for (const json& name : value) {
          if (!name.is_string()) return Add(place, "must be a list of names");
        }
      } else if (key == "enum" || key == "examples") {
        if (!value.is_array() || value.empty()) Add(place, "must be a list with a value");
      } else if (key == "minimum" || key == "maximum") {
        if (!value.is_number()) Add(place, "must be a number");
      } else if (key == "minLength" || key == "maxLength" || key == "minItems" || key == "maxItems") {
        if (!value.is_number_integer() || value < 0) Add(place, "must be a count");
      } else if (key == "pattern") {
        if (!value.is_string()) return Add(place, "must be a text");
        const re2::RE2 pattern(value.get<std::string>(), re2::RE2::Quiet);
        if (!pattern.ok()) Add(place, absl::StrCat("is no expression that RE2 knows: ", pattern.error()));
      } else if (key != "title" && key != "description" && key != "default" && key != "const" && key != "$schema") {
        Add(place,
            "is a keyword that is not supported; there are type, properties, required, additionalProperties, items, "
            "enum, const, minimum, maximum, minLength, maxLength, pattern, minItems, maxItems, title, description, "
            "default, examples");
      }
    }
  }

 private:
  void Add(const std::string& at, const std::string& what) {
    if (faults_.size() < kMaxFaults) faults_.push_back(absl::StrCat(at, " ", what));
  }
  void Type(const json& value, const std::string& at) {
    const json list = value.is_array() ? value : json::array({value});
    for (const json& one : list) {
      bool known = false;
      for (const char* type : kTypes) known = known || one == type;
      if (!known) return Add(at, "must be of object, array, string, integer, number, boolean, null");
    }
  }
  std::vector<std::string>& faults_;
};

class ValueCheck {
 public:
  explicit ValueCheck(std::vector<Violation>* faults) : faults_(*faults) {}

  void Check(const json& schema, const json& value, const std::string& at) {
    if (faults_.size() >= kMaxFaults) return;
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) Add(at, "is not allowed");
      return;
    }
    if (!schema.is_object()) return;
    if (schema.contains("type") && !HasType(schema["type"], value)) {
      const json& type = schema["type"];
      return Add(at,
                 absl::StrCat("must be of type ",
                              type.is_string() ? type.get<std::string>() : absl::StrJoin(Texts(type), " or ")),
                 "WRONG_TYPE");
    }
    if (schema.contains("const") && value != schema["const"]) Add(at, absl::StrCat("must be ", schema["const"].dump()));
    if (schema.contains("enum")) {
      bool found = false;
      for (const json& one : schema["enum"]) found = found || one == value;
      if (!found) Add(at, absl::StrCat("must be one of ", absl::StrJoin(Dumps(schema["enum"]), ", ")));
    }
    if (value.is_number()) Number(schema, value, at);
    if (value.is_string()) Text(schema, value.get_ref<const std::string&>(), at);
    if (value.is_array()) List(schema, value, at);
    if (value.is_object()) Object(schema, value, at);
  }

 private:
  void Add(const std::string& at, const std::string& what, const char* reason = "NOT_ALLOWED") {
    if (faults_.size() < kMaxFaults) faults_.push_back({at, what, reason});
  }
  static std::vector<std::string> Texts(const json& list) {
    std::vector<std::string> out;
    for (const json& one : list) out.push_back(one.is_string() ? one.get<std::string>() : one.dump());
    return out;
  }
  static std::vector<std::string> Dumps(const json& list) {
    std::vector<std::string> out;
    for (const json& one : list) out.push_back(one.dump(-1, ' ', false, json::error_handler_t::replace));
    return out;
  }
  static bool HasType(const json& type, const json& value) {
    if (type.is_string()) return IsType(value, type.get<std::string>());
    for (const json& one : type) {
      if (one.is_string() && IsType(value, one.get<std::string>())) return true;
    }
    return false;
  }
  void Number(const json& schema, const json& value, const std::string& at) {
    if (schema.contains("minimum") && value < schema["minimum"])
      Add(at, absl::StrCat("must be at least ", schema["minimum"].dump()), "TOO_SMALL");
    if (schema.contains("maximum") && value > schema["maximum"])
      Add(at, absl::StrCat("must be at most ", schema["maximum"].dump()), "TOO_LARGE");
  }
  void Text(const json& schema, const std::string& text, const std::string& at) {
    if (schema.contains("minLength") && LengthOf(text) < schema["minLength"].get<int64_t>())
      Add(at, absl::StrCat("must have at least ", schema["minLength"].dump(), " characters"), "TOO_SMALL");
    if (schema.contains("maxLength") && LengthOf(text) > schema["maxLength"].get<int64_t>())
      Add(at, absl::StrCat("must have at most ", schema["maxLength"].dump(), " characters"), "TOO_LARGE");
    if (!schema.contains("pattern")) return;
    const std::string pattern = schema["pattern"].get<std::string>();
    const re2::RE2 expression(pattern, re2::RE2::Quiet);
    if (expression.ok() && !re2::RE2::PartialMatch(text, expression)) Add(at, absl::StrCat("must match ", pattern));
  }
  void List(const json& schema, const json& list, const std::string& at) {
    const auto size = static_cast<int64_t>(list.size());
    if (schema.contains("minItems") && size < schema["minItems"].get<int64_t>())
      Add(at, absl::StrCat("must have at least ", schema["minItems"].dump(), " entries"), "TOO_SMALL");
    if (schema.contains("maxItems") && size > schema["maxItems"].get<int64_t>())
      Add(at, absl::StrCat("must have at most ", schema["maxItems"].dump(), " entries"), "TOO_LARGE");
    if (!schema.contains("items")) return;
    for (size_t i = 0; i < list.size(); ++i) Check(schema["items"], list[i], absl::StrCat(at, "[", i, "]"));
  }
  void Object(const json& schema, const json& object, const std::string& at) {
    const json properties = schema.value("properties", json::object());
    for (const auto& [name, value] : object.items()) {
      const std::string place = absl::StrCat(at, at.empty() ? "" : ".", name);
      if (properties.contains(name)) {
        Check(properties[name], value, place);
      } else if (schema.contains("additionalProperties")) {
        const json& others = schema["additionalProperties"];
        if (others != false) {
          Check(others, value, place);
          continue;
        }
        std::vector<std::string> known;
        for (const auto& [key, ignored] : properties.items()) known.push_back(key);
        Add(place,
            known.empty() ? "is unknown: there is nothing to set"
                          : absl::StrCat("is unknown; there are ", absl::StrJoin(known, ", ")),
            "UNKNOWN_FIELD");
      }
    }
    if (!schema.contains("required")) return;
    for (const json& name : schema["required"]) {
      const std::string field = name.get<std::string>();
      if (!object.contains(field)) Add(absl::StrCat(at, at.empty() ? "" : ".", field), "is missing", "REQUIRED");
    }
  }
  std::vector<Violation>& faults_;
};

}  // namespace

void CheckSchema(absl::string_view text, std::vector<std::string>* faults) {
  if (text.empty()) return;
  if (text.size() > kMaxSchemaBytes) {
    faults->push_back(absl::StrCat("has ", text.size(), " bytes; at most ", kMaxSchemaBytes, " are read"));
    return;
  }
  const json schema = Parse(text);
  if (!schema.is_object()) {
    faults->push_back("is no JSON object");
    return;
  }
  if (schema.value("type", json()) != "object") faults->push_back("must say \"type\": \"object\"");
  SchemaCheck(faults).Check(schema, "", 0);
}

std::vector<Violation> Validate(absl::string_view schema, absl::string_view value, const std::string& root) {
  std::vector<Violation> faults;
  const json parsed = value.empty() ? json::object() : Parse(value);
  if (parsed.is_discarded()) {
    faults.push_back({root, "is no JSON", "WRONG_TYPE"});
    return faults;
  }
  ValueCheck(&faults).Check(Parse(schema.empty() ? kNothing : schema), parsed, root);
  return faults;
}

}  // namespace orch::plugin
