// The API's messages as JSON and back. The first line names the message (`orch.v1.SubmitRunRequest`); what was read is
// printed, read again, and is the same; so are its bytes.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/util/json_util.h>

#include "orch/v1/admin_service.pb.h"
#include "orch/v1/artifact_service.pb.h"
#include "orch/v1/log_service.pb.h"
#include "orch/v1/orchestrator_service.pb.h"
#include "orch/v1/pipeline_service.pb.h"
#include "orch/v1/run_service.pb.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::string Bytes(const google::protobuf::Message& message) {
  std::string out;
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  REQUIRE(message.SerializeToCodedStream(&coded));
  coded.Trim();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  const size_t line = text.find('\n');
  if (line == std::string_view::npos) return 0;
  // So that the linker keeps every file of messages.
  (void)orch::v1::SubmitRunRequest::default_instance();
  const auto* descriptor =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(std::string(text.substr(0, line)));
  if (descriptor == nullptr) return 0;
  const auto* prototype = google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor);
  const std::unique_ptr<google::protobuf::Message> message(prototype->New());
  const std::unique_ptr<google::protobuf::Message> again(prototype->New());
  const std::string body(text.substr(line + 1));
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string printed;
  if (!google::protobuf::util::JsonStringToMessage(body, message.get()).ok()) return 0;
  if (!google::protobuf::util::MessageToJsonString(*message, &printed, options).ok()) return 0;
  REQUIRE(google::protobuf::util::JsonStringToMessage(printed, again.get()).ok());
  REQUIRE(Bytes(*again) == Bytes(*message));
  REQUIRE(again->ParseFromString(Bytes(*message)) && Bytes(*again) == Bytes(*message));
  return 0;
}
