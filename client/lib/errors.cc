#include "client/lib/errors.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include "server/base/status.h"

namespace orch::client {
namespace {

// The last and only telling part of `failed to connect to all addresses; last error: UNKNOWN: ipv4:…: Connection …`.
std::string CauseOf(absl::string_view message) {
  const size_t at = message.rfind(": ");
  std::string cause(at == absl::string_view::npos ? message : message.substr(at + 2));
  absl::StripAsciiWhitespace(&cause);
  if (!cause.empty()) cause[0] = absl::ascii_tolower(static_cast<unsigned char>(cause[0]));
  return cause.empty() ? "no connection" : cause;
}

// Why TLS did not come about, and what to do; empty if it is something else.
std::string TlsFault(absl::string_view message, const Endpoint& endpoint) {
  const std::string by = endpoint.ca_origin.empty() ? "the system's authorities" : endpoint.ca_origin;
  if (!UsesTls(endpoint.address)) return "";
  if (absl::StrContains(message, "CERTIFICATE_VERIFY_FAILED") ||
      absl::StrContains(message, "certificate verify failed")) {
    return absl::StrCat("its certificate is not signed by ", by, ", or is out of date: give the certificate of its CA ",
                        "(its own if it signed itself) with --ca FILE or ORCH_CA");
  }
  if (absl::StrContains(message, "is not in peer certificate")) {
    return "its certificate is for another name: use one that it has (openssl x509 -noout -ext subjectAltName)";
  }
  if (absl::StrContains(message, "WRONG_VERSION_NUMBER") || absl::StrContains(message, "wrong version number")) {
    return "what answers there does not speak TLS: it was started without --tls-cert";
  }
  if (absl::StrContains(message, "ALPN")) {
    return "what answers there does not speak gRPC: give the port of --listen, not that of --http-listen";
  }
  if (absl::StrContains(message, "root_certs") || absl::StrContains(message, "Invalid cert")) {
    return absl::StrCat(by, " holds no certificate that can be used");
  }
  return "";
}

std::string HowToStart(const Endpoint& endpoint) {
  if (endpoint.pid != 0)
    return absl::StrCat("is process ", endpoint.pid, " well? see ", endpoint.data_dir, "/orchd.log");
  return absl::StrCat("check the address, given by ", endpoint.origin, ", and that orchd runs there");
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  google::rpc::Status details;
  std::string reason;
  std::vector<Violation> violations;
  int64_t delay_ms = 0;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      google::rpc::ErrorInfo info;
      google::rpc::BadRequest bad;
      google::rpc::RetryInfo retry;
      if (any.UnpackTo(&info)) {
        reason = info.reason();
      } else if (any.UnpackTo(&bad)) {
        for (const auto& v : bad.field_violations()) violations.push_back({v.field(), v.description(), v.reason()});
      } else if (any.UnpackTo(&retry)) {
        // Whoever answers may say anything; a day is for ever.
        const int64_t seconds = std::clamp<int64_t>(retry.retry_delay().seconds(), 0, 24 * 3600);
        delay_ms = seconds * 1000 + std::clamp(retry.retry_delay().nanos(), 0, 999'999'999) / 1'000'000;
      }
    }
  }
  absl::Status out(code, status.error_message());
  if (!violations.empty()) {
    out = InvalidInput(reason.empty() ? "INVALID_ARGUMENT" : reason, status.error_message(), violations);
  } else if (!reason.empty()) {
    out = Error(code, reason, status.error_message());
  }
  return delay_ms > 0 ? WithRetryDelay(out, delay_ms) : out;
}

absl::Status Explain(absl::Status status, const Endpoint& endpoint) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (!ReasonOf(status).empty()) return status;
      if (const std::string fault = TlsFault(status.message(), endpoint); !fault.empty()) {
        return Error(status.code(), "SERVER_UNTRUSTED",
                     absl::StrCat("no safe connection to the daemon at ", endpoint.address, ": ", fault));
      }
      return Error(status.code(), "SERVER_UNREACHABLE",
                   absl::StrCat("cannot reach the daemon at ", endpoint.address, " (", CauseOf(status.message()),
                                "): ", HowToStart(endpoint)));
    case absl::StatusCode::kUnauthenticated: {
      if (ReasonOf(status) == "TOKEN_EXPIRED" || ReasonOf(status) == "TOKEN_REVOKED") return status;  // it says it all
      const std::string why =
          endpoint.token.empty()
              ? (UsesTls(endpoint.address)
                     ? "it needs a token, and none was given: put one that `orchctl create-token` made there into "
                       "ORCH_TOKEN or a --token-file"
                     : "it needs a token, and none was found: set ORCH_TOKEN or ORCH_DATA_DIR, or give --token-file")
              : absl::StrCat(
                    "it refused the token from ", endpoint.token_origin,
                    ": set ORCH_TOKEN or --token-file to the daemon's own (file `token` in its data directory)");
      return Error(status.code(), ReasonOf(status).empty() ? "TOKEN_INVALID" : ReasonOf(status),
                   absl::StrCat("not signed in to the daemon at ", endpoint.address, ": ", why));
    }
    case absl::StatusCode::kDeadlineExceeded:
      if (!ReasonOf(status).empty()) return status;
      return Error(status.code(), "SERVER_SILENT",
                   absl::StrCat("the daemon at ", endpoint.address, " did not answer in time: ", HowToStart(endpoint),
                                "; a longer --timeout waits longer"));
    case absl::StatusCode::kUnimplemented:
      if (!ReasonOf(status).empty()) return status;
      return Error(status.code(), "CALL_UNKNOWN",
                   absl::StrCat("the daemon at ", endpoint.address, " does not know this call: it is older than this ",
                                "client (compare `orchctl version`)"));
    default:
      return status;
  }
}

}  // namespace orch::client
