#include "client/cli/json.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/message.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/base/clock.h"
#include "server/base/json.h"

namespace orch::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

constexpr int64_t kExact = int64_t{1} << 53;

Json Text(const std::string& text) {
  // Logs and messages may hold bytes that are no UTF-8; JsonQuote replaces them.
  return Json::parse(JsonQuote(text));
}

Json Number(int64_t n) {
  if (n > kExact || n < -kExact) return std::to_string(n);
  return n;
}

Json Number(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
  // 3.0 in a google.protobuf.Value was written as 3.
  if (d == std::floor(d) && std::abs(d) <= static_cast<double>(kExact)) return static_cast<int64_t>(d);
  return d;
}

Json OfValue(const google::protobuf::Value& value);

Json OfStruct(const google::protobuf::Struct& value) {
  Json out = Json::object();
  const std::map<std::string, google::protobuf::Value> sorted(value.fields().begin(), value.fields().end());
  for (const auto& [key, field] : sorted) out[key] = OfValue(field);
  return out;
}

Json OfList(const google::protobuf::ListValue& value) {
  Json out = Json::array();
  for (const auto& item : value.values()) out.push_back(OfValue(item));
  return out;
}

Json OfValue(const google::protobuf::Value& value) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kNumberValue:
      return Number(value.number_value());
    case google::protobuf::Value::kStringValue:
      return Text(value.string_value());
    case google::protobuf::Value::kBoolValue:
      return value.bool_value();
    case google::protobuf::Value::kStructValue:
      return OfStruct(value.struct_value());
    case google::protobuf::Value::kListValue:
      return OfList(value.list_value());
    default:
      return nullptr;
  }
}

Json OfDuration(const google::protobuf::Duration& duration) {
  std::string text =
      absl::StrFormat("%s%d", duration.seconds() == 0 && duration.nanos() < 0 ? "-" : "", duration.seconds());
  if (duration.nanos() != 0) {
    text += absl::StrFormat(".%09d", std::abs(duration.nanos()));
    while (text.back() == '0') text.pop_back();
  }
  return text + "s";
}

Json OfMessage(const Message& message);

// One value of `field`: the singular one, or the `index`th of a repeated one.
Json OfField(const Message& m, const Reflection& r, const FieldDescriptor* f, int index) {
  const bool many = f->is_repeated();
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? r.GetRepeatedInt32(m, f, index) : r.GetInt32(m, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return Number(static_cast<int64_t>(many ? r.GetRepeatedInt64(m, f, index) : r.GetInt64(m, f)));
    case FieldDescriptor::CPPTYPE_UINT32:
      return many ? r.GetRepeatedUInt32(m, f, index) : r.GetUInt32(m, f);
    case FieldDescriptor::CPPTYPE_UINT64: {
      const uint64_t n = many ? r.GetRepeatedUInt64(m, f, index) : r.GetUInt64(m, f);
      if (n > static_cast<uint64_t>(kExact)) return std::to_string(n);
      return n;
    }
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Number(many ? r.GetRepeatedDouble(m, f, index) : r.GetDouble(m, f));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number(static_cast<double>(many ? r.GetRepeatedFloat(m, f, index) : r.GetFloat(m, f)));
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? r.GetRepeatedBool(m, f, index) : r.GetBool(m, f);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int n = many ? r.GetRepeatedEnumValue(m, f, index) : r.GetEnumValue(m, f);
      const auto* value = f->enum_type()->FindValueByNumber(n);
      // A newer daemon may know words that this client does not.
      if (value == nullptr) return n;
      return value->name();
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = many ? r.GetRepeatedString(m, f, index) : r.GetString(m, f);
      if (f->type() == FieldDescriptor::TYPE_BYTES) return absl::Base64Escape(text);
      return Text(text);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return OfMessage(many ? r.GetRepeatedMessage(m, f, index) : r.GetMessage(m, f));
  }
  return nullptr;
}

Json OfMap(const Message& m, const Reflection& r, const FieldDescriptor* f) {
  std::map<std::string, Json> sorted;
  for (int i = 0; i < r.FieldSize(m, f); ++i) {
    const Message& entry = r.GetRepeatedMessage(m, f, i);
    const Reflection& er = *entry.GetReflection();
    const Json key = OfField(entry, er, entry.GetDescriptor()->map_key(), 0);
    sorted[key.is_string() ? key.get<std::string>() : key.dump()] =
        OfField(entry, er, entry.GetDescriptor()->map_value(), 0);
  }
  Json out = Json::object();
  for (auto& [key, value] : sorted) out[key] = std::move(value);
  return out;
}

Json OfMessage(const Message& message) {
  if (const auto* v = dynamic_cast<const google::protobuf::Value*>(&message)) return OfValue(*v);
  if (const auto* v = dynamic_cast<const google::protobuf::Struct*>(&message)) return OfStruct(*v);
  if (const auto* v = dynamic_cast<const google::protobuf::ListValue*>(&message)) return OfList(*v);
  if (const auto* v = dynamic_cast<const google::protobuf::Duration*>(&message)) return OfDuration(*v);
  if (const auto* v = dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    return FormatTime(v->seconds() * 1'000'000 + v->nanos() / 1000);
  }
  Json out = Json::object();
  const auto* descriptor = message.GetDescriptor();
  const Reflection& r = *message.GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* f = descriptor->field(i);
    Json& slot = out[f->name()];
    if (f->is_map()) {
      slot = OfMap(message, r, f);
    } else if (f->is_repeated()) {
      slot = Json::array();
      for (int k = 0; k < r.FieldSize(message, f); ++k) slot.push_back(OfField(message, r, f, k));
    } else if (f->has_presence() && !r.HasField(message, f)) {
      if (f->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE || f->real_containing_oneof() != nullptr) {
        out.erase(f->name());
      } else {
        slot = nullptr;
      }
    } else {
      slot = OfField(message, r, f, 0);
    }
  }
  return out;
}

// Text that YAML reads back as the same string without quotes.
bool Plain(const std::string& text) {
  if (text.empty()) return false;
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!letter(text[0]) && text[0] != '/' && text[0] != '_') return false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!letter(c) && !digit && c != '_' && c != '-' && c != '.' && c != '/') return false;
  }
  // Words that some version of YAML takes for something else.
  static constexpr const char* kWords[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  for (const char* word : kWords) {
    if (lower == word) return false;
  }
  return true;
}

std::string YamlText(const std::string& text) { return Plain(text) ? text : YamlQuote(text); }

void Yaml(const Json& json, int indent, std::string* out) {
  const std::string pad(static_cast<size_t>(indent), ' ');
  const auto nested = [](const Json& j) { return (j.is_object() || j.is_array()) && !j.empty(); };
  const auto scalar = [](const Json& j) { return j.is_string() ? YamlText(j.get<std::string>()) : j.dump(); };
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      absl::StrAppend(out, pad, YamlText(key), ":");
      if (nested(value)) {
        *out += '\n';
        Yaml(value, indent + 2, out);
      } else {
        absl::StrAppend(out, " ", scalar(value), "\n");
      }
    }
  } else {
    for (const Json& item : json) {
      if (!nested(item)) {
        absl::StrAppend(out, pad, "- ", scalar(item), "\n");
        continue;
      }
      const size_t begin = out->size();
      Yaml(item, indent + 2, out);
      // The first line of the item begins behind the dash.
      (*out)[begin + static_cast<size_t>(indent)] = '-';
    }
  }
}

}  // namespace

Json ToJson(const Message& message) { return OfMessage(message); }

std::string ToYaml(const Json& json) {
  if (!json.is_object() && !json.is_array()) {
    return (json.is_string() ? YamlText(json.get<std::string>()) : json.dump()) + "\n";
  }
  if (json.empty()) return json.dump() + "\n";
  std::string out;
  Yaml(json, 0, &out);
  return out;
}

}  // namespace orch::cli
