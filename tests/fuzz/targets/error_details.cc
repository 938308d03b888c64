// Errors on their way to a client: the details of any server are read without harm; ours arrive as they were sent.
//
// The input is what a status carries: code, reason, message and violations in parts, or the details' bytes.
#include "client/lib/errors.h"
#include "server/base/status.h"
#include "server/rpc/errors.h"
#include "tests/fuzz/fuzz.h"

namespace {

bool IsUtf8(const std::string& text) {
  google::rpc::Status status;
  status.set_message(text);
  return google::rpc::Status().ParseFromString(status.SerializeAsString());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text = orch::fuzz::View(data + 1, size - 1);
  const auto code = static_cast<absl::StatusCode>(data[0] % 17);
  const absl::Status read =
      orch::client::FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(data[0] % 17), "message", std::string(text)));
  REQUIRE(read.ok() == (code == absl::StatusCode::kOk));
  REQUIRE(orch::RetryDelayOf(read) >= 0);
  REQUIRE(!orch::client::Explain(read, {}).message().empty() || read.ok());

  const std::vector<std::string> parts = orch::fuzz::Parts(text, 4);
  if (code == absl::StatusCode::kOk || parts[1].empty() || text.size() > 1000 || !IsUtf8(std::string(text))) return 0;
  absl::Status sent = orch::Error(code, parts[1], parts[0]);
  if (!parts[2].empty()) sent = orch::InvalidInput(parts[1], parts[0], {{parts[2], parts[3], "R"}});
  if (data[0] >= 128) sent = orch::WithRetryDelay(sent, 1 + data[0]);
  const absl::Status got = orch::client::FromGrpc(orch::rpc::ToGrpc(sent));
  REQUIRE(got.code() == sent.code() && got.message() == sent.message());
  REQUIRE(orch::ReasonOf(got) == orch::ReasonOf(sent) && orch::RetryDelayOf(got) == orch::RetryDelayOf(sent));
  REQUIRE(orch::ViolationsOf(got).size() == orch::ViolationsOf(sent).size());
  return 0;
}
