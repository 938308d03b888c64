// JSON text and google.protobuf.Value, both ways. Text is compact, its keys are sorted, and whole numbers up to 2^53
// have no fraction, so that equal values are equal text.
#pragma once

#include <google/protobuf/struct.pb.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace orch::rpc {

std::string ToJson(const google::protobuf::Value& value);
std::string ToJson(const google::protobuf::Struct& value);
std::string ToJson(const google::protobuf::ListValue& value);

// How deep lists and mappings of a value may nest, so that whatever holds it can still be read by every client.
inline constexpr int kMaxJsonDepth = 30;

// INVALID_ARGUMENT (JSON_INVALID) if it is no JSON, or nested deeper than that.
absl::Status FromJson(absl::string_view json, google::protobuf::Value* value);
// ... or no object.
absl::Status FromJson(absl::string_view json, google::protobuf::Struct* value);

// A number as JSON writes it; NaN and infinities, which JSON has not, become null.
std::string JsonNumber(double number);

}  // namespace orch::rpc
