// JSON text and google.protobuf.Value: one text for equal values, the same after another round, valid JSON always.
#include <nlohmann/json.hpp>

#include "server/base/json.h"
#include "server/engine/render.h"
#include "server/rpc/values.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(orch::fuzz::View(data, size));
  google::protobuf::Value value;
  if (orch::rpc::FromJson(text, &value).ok()) {
    const std::string written = orch::rpc::ToJson(value);
    google::protobuf::Value again;
    REQUIRE(orch::rpc::FromJson(written, &again).ok());
    REQUIRE(orch::rpc::ToJson(again) == written);
    google::protobuf::Struct object;
    REQUIRE(orch::rpc::FromJson(text, &object).ok() == value.has_struct_value());
    std::string bytes;
    REQUIRE(value.SerializeToString(&bytes) && again.ParseFromString(bytes));  // not too deep for its readers
    if (value.has_string_value()) REQUIRE(orch::PlainText(written) == value.string_value());
  }
  // A message of a client, as bytes.
  if (value.ParseFromString(text)) {
    const std::string written = orch::rpc::ToJson(value);
    REQUIRE(nlohmann::json::accept(written));
  }
  // Any bytes as a JSON string.
  const auto quoted = nlohmann::json::parse(orch::JsonQuote(text), nullptr, false);
  REQUIRE(quoted.is_string());
  return 0;
}
