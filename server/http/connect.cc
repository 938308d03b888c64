#include "server/http/connect.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/json.h"
#include "server/base/status.h"
#include "server/rpc/errors.h"

namespace orch::http {
namespace {

constexpr int64_t kUsualDeadlineMicros = 60'000'000;

google::protobuf::util::JsonPrintOptions PrintOptions() {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  return options;
}

// `google.rpc.ErrorInfo` from `type.googleapis.com/google.rpc.ErrorInfo`.
absl::string_view TypeOf(absl::string_view url) {
  const size_t slash = url.rfind('/');
  return slash == absl::string_view::npos ? url : url.substr(slash + 1);
}

std::string Base64NoPadding(absl::string_view bytes) {
  std::string out = absl::Base64Escape(bytes);
  while (!out.empty() && out.back() == '=') out.pop_back();
  return out;
}

absl::Status Unimplemented(absl::string_view reason, absl::string_view message) {
  return Error(absl::StatusCode::kUnimplemented, reason, message);
}

// A method that exists but streams deserves other words than one that does not.
absl::Status NoSuchMethod(absl::string_view name) {
  std::string dotted(name);
  std::replace(dotted.begin(), dotted.end(), '/', '.');
  const auto* method = google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(dotted);
  if (method != nullptr && method->server_streaming()) {
    return Unimplemented("STREAM_NEEDS_GRPC", absl::StrCat(name, " is a stream; it is served over gRPC only"));
  }
  return Unimplemented("METHOD_NOT_FOUND", "there is no such call");
}

}  // namespace

Response ConnectError(const absl::Status& status) {
  const google::rpc::Status rpc_status = rpc::ToRpcStatus(status);
  std::string body =
      absl::StrCat("{\"code\":\"", rpc::ConnectCode(status.code()), "\",\"message\":", JsonQuote(rpc_status.message()));
  if (rpc_status.details_size() > 0) {
    body += ",\"details\":[";
    for (int i = 0; i < rpc_status.details_size(); ++i) {
      const google::protobuf::Any& detail = rpc_status.details(i);
      std::string debug;
      (void)google::protobuf::util::MessageToJsonString(detail, &debug, PrintOptions());  // empty then
      absl::StrAppend(&body, i == 0 ? "" : ",", "{\"type\":", JsonQuote(TypeOf(detail.type_url())), ",\"value\":\"",
                      Base64NoPadding(detail.value()), "\"", debug.empty() ? "" : absl::StrCat(",\"debug\":", debug),
                      "}");
    }
    body += "]";
  }
  body += "}";
  Response response;
  response.status = rpc::ConnectHttpStatus(status.code());
  response.content_type = "application/json";
  response.body = std::move(body);
  if (status.code() == absl::StatusCode::kUnauthenticated) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"orchd\"");
  }
  if (const int64_t delay = RetryDelayOf(status); delay > 0) {
    response.headers.emplace_back("Retry-After", absl::StrCat((delay + 999) / 1000));
  }
  return response;
}

Response ServeConnect(const rpc::MethodTable& table, rpc::Guard& guard, const rpc::Identity& identity,
                      const Request& request) {
  const absl::string_view name = absl::StripPrefix(absl::string_view(request.path), "/");
  const rpc::Method* method = table.Find(name);
  if (method == nullptr) return ConnectError(NoSuchMethod(name));
  const std::string declared = request.header("content-type");
  const std::string content_type =
      absl::AsciiStrToLower(absl::StripAsciiWhitespace(absl::string_view(declared).substr(0, declared.find(';'))));
  const bool json = content_type == "application/json";
  if (!json && content_type != "application/proto") {
    Response refused = ConnectError(
        Error(absl::StatusCode::kInvalidArgument, "CONTENT_TYPE", "send application/json or application/proto"));
    refused.status = 415;
    refused.headers.emplace_back("Accept-Post", "application/json, application/proto");
    return refused;
  }
  const std::string encoding = request.header("content-encoding");
  if (!encoding.empty() && encoding != "identity") {
    return ConnectError(Unimplemented("CONTENT_ENCODING", "compressed requests are not taken; send it plain"));
  }

  std::unique_ptr<google::protobuf::Message> in(method->request_prototype->New());
  std::unique_ptr<google::protobuf::Message> out(method->response_prototype->New());
  if (json) {
    // An empty body is an empty message: kind to curl.
    if (!absl::StripAsciiWhitespace(request.body).empty()) {
      const auto parsed = google::protobuf::util::JsonStringToMessage(request.body, in.get());
      if (!parsed.ok()) {
        const std::string why = absl::StrCat(
            "the body is no ", in->GetDescriptor()->full_name(),
            " in JSON: ", absl::string_view(parsed.message().data(), std::min<size_t>(parsed.message().size(), 500)));
        return ConnectError(InvalidInput("JSON_INVALID", why, {{"", why, "JSON_INVALID"}}));
      }
    }
  } else if (!in->ParseFromString(request.body)) {
    return ConnectError(InvalidInput("PROTO_INVALID", "the body is no valid message",
                                     {{"", "it is no valid message of this call", "PROTO_INVALID"}}));
  }

  rpc::CallContext context;
  context.identity = identity;
  context.deadline_micros = kUsualDeadlineMicros;
  int64_t timeout_ms = 0;
  if (absl::SimpleAtoi(request.header("connect-timeout-ms"), &timeout_ms) && timeout_ms > 0) {
    context.deadline_micros = std::min(kUsualDeadlineMicros, timeout_ms * 1000);
  }
  const absl::Status status = guard.Call(*method, std::move(context), in.get(), out.get());
  if (!status.ok()) return ConnectError(status);
  Response response;
  response.headers.emplace_back("Cache-Control", "no-store");
  if (json) {
    response.content_type = "application/json";
    google::protobuf::util::JsonPrintOptions options = PrintOptions();
    options.always_print_primitive_fields =
        true;  // an empty list is `[]`: a dashboard need not ask whether it is there
    const auto printed = google::protobuf::util::MessageToJsonString(*out, &response.body, options);
    if (!printed.ok()) {
      return ConnectError(rpc::Seal(absl::InternalError(std::string(printed.message())), method->name));
    }
  } else {
    response.content_type = "application/proto";
    response.body = out->SerializeAsString();
  }
  return response;
}

}  // namespace orch::http
