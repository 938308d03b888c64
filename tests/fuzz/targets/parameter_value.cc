// `--param name=TEXT`: a value that was read is read again from its JSON.
#include "client/spec/parse.h"
#include "google/protobuf/util/json_util.h"
#include "google/protobuf/util/message_differencer.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  const auto value = orch::spec::ParseParameterValue({text.data(), text.size()});
  if (!value.ok()) {
    REQUIRE(!value.status().message().empty());
    return 0;
  }
  std::string json;
  REQUIRE(google::protobuf::util::MessageToJsonString(*value, &json).ok());
  // Escaped, for YAML takes some characters only so.
  json = nlohmann::json::parse(json).dump(-1, ' ', /*ensure_ascii=*/true);
  const auto again = orch::spec::ParseParameterValue(json);
  REQUIRE(again.ok());
  REQUIRE(google::protobuf::util::MessageDifferencer::Equals(*again, *value));
  return 0;
}
