// Messages as JSON (and YAML) for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace google::protobuf {
class Message;
}

namespace orch::cli {

// Proto JSON with the field names of the .proto files, and these differences, which make jq pleasant: 64-bit integers
// are numbers up to 2^53 (strings beyond), fields without presence are always there, optional scalars that are not set
// are null. Absent messages are left out. Maps are sorted by key.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

std::string ToYaml(const nlohmann::ordered_json& json);

}  // namespace orch::cli
