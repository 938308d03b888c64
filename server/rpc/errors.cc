#include "server/rpc/errors.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {

// Trailers are headers: gRPC clients refuse more than 8 KiB of them by default, so details stay well below.
constexpr size_t kMaxDetailBytes = 5 << 10;
constexpr size_t kMaxMessageBytes = 1 << 10;

std::string DefaultReason(absl::StatusCode code) {
  std::string reason = absl::StatusCodeToString(code);
  return reason.empty() ? "UNKNOWN" : reason;
}

std::string Cut(absl::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return absl::StrCat(text.substr(0, end), "…");
}

}  // namespace

absl::Status Seal(absl::Status status, absl::string_view method) {
  if (status.ok()) return status;
  if (status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kUnknown ||
      status.code() == absl::StatusCode::kDataLoss) {
    const std::string id = Hex(RandomBytes(6));
    Log(LogLevel::kError, "call failed", {{"id", id}, {"rpc", method}, {"error", status.ToString()}});
    return Error(absl::StatusCode::kInternal, "INTERNAL", absl::StrCat("orchd failed; its log has more under id ", id));
  }
  if (ReasonOf(status).empty()) {
    absl::Status named = Error(status.code(), DefaultReason(status.code()), status.message());
    if (const int64_t delay = RetryDelayOf(status); delay > 0) named = WithRetryDelay(named, delay);
    return named;
  }
  return status;
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(Cut(status.message(), kMaxMessageBytes));
  if (status.ok()) return out;
  google::rpc::ErrorInfo info;
  info.set_reason(ReasonOf(status).empty() ? DefaultReason(status.code()) : ReasonOf(status));
  info.set_domain("orchd");
  const std::vector<Violation> violations = ViolationsOf(status);
  google::rpc::BadRequest bad;
  size_t bytes = 0;
  for (const Violation& v : violations) {
    bytes += v.field.size() + v.description.size() + v.reason.size() + 12;
    if (bytes > kMaxDetailBytes && bad.field_violations_size() > 0) break;
    auto* out_violation = bad.add_field_violations();
    out_violation->set_field(Cut(v.field, 512));
    out_violation->set_description(Cut(v.description, kMaxMessageBytes));
    out_violation->set_reason(v.reason);
  }
  if (!violations.empty()) {
    // How many there are in all; ValidatePipeline lists every one.
    (*info.mutable_metadata())["violations"] = absl::StrCat(violations.size());
  }
  if (const auto [name, value] = FactOf(status); !name.empty()) (*info.mutable_metadata())[name] = value;
  out.add_details()->PackFrom(info);
  if (!violations.empty()) out.add_details()->PackFrom(bad);
  if (const int64_t delay = RetryDelayOf(status); delay > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(delay / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay % 1000 * 1'000'000));
    out.add_details()->PackFrom(retry);
  }
  return out;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status details = ToRpcStatus(status);
  return {static_cast<grpc::StatusCode>(details.code()), details.message(), details.SerializeAsString()};
}

absl::string_view ConnectCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "ok";
    case absl::StatusCode::kCancelled:
      return "canceled";
    case absl::StatusCode::kUnknown:
      return "unknown";
    case absl::StatusCode::kInvalidArgument:
      return "invalid_argument";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline_exceeded";
    case absl::StatusCode::kNotFound:
      return "not_found";
    case absl::StatusCode::kAlreadyExists:
      return "already_exists";
    case absl::StatusCode::kPermissionDenied:
      return "permission_denied";
    case absl::StatusCode::kResourceExhausted:
      return "resource_exhausted";
    case absl::StatusCode::kFailedPrecondition:
      return "failed_precondition";
    case absl::StatusCode::kAborted:
      return "aborted";
    case absl::StatusCode::kOutOfRange:
      return "out_of_range";
    case absl::StatusCode::kUnimplemented:
      return "unimplemented";
    case absl::StatusCode::kInternal:
      return "internal";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kDataLoss:
      return "data_loss";
    case absl::StatusCode::kUnauthenticated:
      return "unauthenticated";
    default:
      return "unknown";
  }
}

int ConnectHttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    default:
      return 500;
  }
}

}  // namespace orch::rpc
