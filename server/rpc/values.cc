#include "server/rpc/values.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/json.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {

// A Value in a Struct in a Value takes three levels of messages, and clients read at most 100.
constexpr int kMaxDepth = kMaxJsonDepth;

void Append(const google::protobuf::Value& value, std::string* out);

void Append(const google::protobuf::ListValue& list, std::string* out) {
  out->push_back('[');
  for (int i = 0; i < list.values_size(); ++i) {
    if (i > 0) out->push_back(',');
    Append(list.values(i), out);
  }
  out->push_back(']');
}

void Append(const google::protobuf::Struct& object, std::string* out) {
  std::map<std::string, const google::protobuf::Value*> sorted;
  for (const auto& [key, value] : object.fields()) sorted.emplace(key, &value);
  out->push_back('{');
  bool first = true;
  for (const auto& [key, value] : sorted) {
    if (!first) out->push_back(',');
    first = false;
    absl::StrAppend(out, JsonQuote(key), ":");
    Append(*value, out);
  }
  out->push_back('}');
}

void Append(const google::protobuf::Value& value, std::string* out) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kNumberValue:
      out->append(JsonNumber(value.number_value()));
      break;
    case google::protobuf::Value::kStringValue:
      out->append(JsonQuote(value.string_value()));
      break;
    case google::protobuf::Value::kBoolValue:
      out->append(value.bool_value() ? "true" : "false");
      break;
    case google::protobuf::Value::kStructValue:
      Append(value.struct_value(), out);
      break;
    case google::protobuf::Value::kListValue:
      Append(value.list_value(), out);
      break;
    case google::protobuf::Value::kNullValue:
    case google::protobuf::Value::KIND_NOT_SET:
      out->append("null");
      break;
  }
}

absl::Status Invalid(absl::string_view what) { return Error(absl::StatusCode::kInvalidArgument, "JSON_INVALID", what); }

absl::Status Fill(const nlohmann::json& json, int depth, google::protobuf::Value* value) {
  if (depth > kMaxDepth) return Invalid(absl::StrCat("it is nested deeper than ", kMaxDepth, " levels"));
  switch (json.type()) {
    case nlohmann::json::value_t::null:
    case nlohmann::json::value_t::discarded:
    case nlohmann::json::value_t::binary:
      value->set_null_value(google::protobuf::NULL_VALUE);
      break;
    case nlohmann::json::value_t::boolean:
      value->set_bool_value(json.get<bool>());
      break;
    case nlohmann::json::value_t::string:
      value->set_string_value(json.get_ref<const std::string&>());
      break;
    case nlohmann::json::value_t::number_integer:
    case nlohmann::json::value_t::number_unsigned:
    case nlohmann::json::value_t::number_float:
      value->set_number_value(json.get<double>());
      break;
    case nlohmann::json::value_t::array: {
      google::protobuf::ListValue* list = value->mutable_list_value();
      for (const nlohmann::json& item : json) RETURN_IF_ERROR(Fill(item, depth + 1, list->add_values()));
      break;
    }
    case nlohmann::json::value_t::object: {
      auto* fields = value->mutable_struct_value()->mutable_fields();
      for (auto it = json.begin(); it != json.end(); ++it) {
        RETURN_IF_ERROR(Fill(it.value(), depth + 1, &(*fields)[it.key()]));
      }
      break;
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string JsonNumber(double number) {
  if (!std::isfinite(number)) return "null";
  if (number == std::floor(number) && std::fabs(number) <= 9007199254740992.0) {
    return absl::StrCat(static_cast<int64_t>(number));
  }
  char text[32];
  for (const int digits : {15, 16, 17}) {  // the shortest that reads back the same
    std::snprintf(text, sizeof(text), "%.*g", digits, number);
    if (std::strtod(text, nullptr) == number) break;
  }
  return text;
}

std::string ToJson(const google::protobuf::Value& value) {
  std::string out;
  Append(value, &out);
  return out;
}
std::string ToJson(const google::protobuf::Struct& value) {
  std::string out;
  Append(value, &out);
  return out;
}
std::string ToJson(const google::protobuf::ListValue& value) {
  std::string out;
  Append(value, &out);
  return out;
}

absl::Status FromJson(absl::string_view json, google::protobuf::Value* value) {
  int depth = 0;
  bool too_deep = false;
  // The callback stops descending early, so that nesting cannot exhaust memory.
  const auto watch = [&](int level, nlohmann::json::parse_event_t, nlohmann::json&) {
    depth = level;
    if (level > kMaxDepth + 1) too_deep = true;
    return !too_deep;
  };
  const nlohmann::json parsed =
      nlohmann::json::parse(json.data(), json.data() + json.size(), watch, /*allow_exceptions=*/false);
  if (too_deep) return Invalid(absl::StrCat("it is nested deeper than ", kMaxDepth, " levels"));
  if (parsed.is_discarded()) return Invalid("it is no JSON");
  return Fill(parsed, 0, value);
}

absl::Status FromJson(absl::string_view json, google::protobuf::Struct* value) {
  google::protobuf::Value any;
  RETURN_IF_ERROR(FromJson(json, &any));
  if (!any.has_struct_value()) return Invalid("it is no object");
  value->Swap(any.mutable_struct_value());
  return absl::OkStatus();
}

}  // namespace orch::rpc
