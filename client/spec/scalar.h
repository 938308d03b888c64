// Scalars: the YAML 1.2 core schema, durations and sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "client/spec/tree.h"
#include "google/protobuf/duration.pb.h"

namespace orch::spec {

// Integers are exact as JSON numbers up to this.
inline constexpr int64_t kMaxExact = int64_t{1} << 53;

enum class Type : uint8_t { kNull, kBool, kInt, kFloat, kText };

// The type that a plain scalar has by the core schema.
Type TypeOf(absl::string_view plain);
// The type of a scalar with this tag; a tag that demands what the text is not: nullopt.
std::optional<Type> TypeOf(absl::string_view text, Tag tag);

// For texts of that type. Integers (decimal, 0o…, 0x…) beyond int64: nullopt. Floats include ±.inf and .nan.
bool ReadBool(absl::string_view text);
std::optional<int64_t> ReadInt(absl::string_view text);
double ReadFloat(absl::string_view text);

// `500ms 10s 5m 2h 1d`, also with a fraction (`1.5s`). nullopt: not of that form, or beyond 10,000 years.
std::optional<google::protobuf::Duration> ReadDuration(absl::string_view text);

// Bytes: a whole number, or one (also with a fraction) followed by K M G T KB MB GB TB (powers of 1000) or Ki Mi Gi Ti
// (powers of 1024). nullopt: not of that form, no whole bytes, or beyond int64.
std::optional<int64_t> ReadSize(absl::string_view text);

}  // namespace orch::spec
