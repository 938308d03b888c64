#include "client/cli/session.h"

#include <errno.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/jq.h"
#include "client/cli/json.h"
#include "client/lib/start.h"
#include "server/base/status.h"

namespace orch::cli {
namespace {

bool WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

bool WriteOut(absl::string_view text) { return WriteAll(STDOUT_FILENO, text); }
void WriteErr(absl::string_view text) { WriteAll(STDERR_FILENO, text); }

absl::Status UsageError(absl::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, "USAGE", message);
}

int ExitCodeOf(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  for (const char* word :
       {"USAGE", "SERVER_ADDRESS_INVALID", "TOKEN_UNREADABLE", "CA_UNREADABLE", "DATA_DIR_UNKNOWN", "JQ_INVALID"}) {
    if (reason == word) return kUsage;
  }
  if (reason == "ORCHD_NOT_FOUND") return kUnreachable;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kPermission;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kRefused;
  }
}

int ExitCodeOf(v1::Run::State state) {
  if (state == v1::Run::CANCELLED) return kCancelled;
  return state == v1::Run::SUCCEEDED ? kOk : kRunFailed;
}

std::string OneLine(const absl::Status& status) {
  std::string line(status.message());
  for (const Violation& v : ViolationsOf(status)) {
    // The daemon's message often quotes the first of them.
    if (absl::StrContains(line, v.description)) continue;
    absl::StrAppend(&line, "; ", v.field, v.field.empty() ? "" : ": ", v.description);
  }
  if (line.empty()) line = absl::StatusCodeToString(status.code());
  return Clean(line);
}

Session::Session(Globals globals)
    : globals_(std::move(globals)),
      out_(Style::For(STDOUT_FILENO, globals_.no_color)),
      err_(Style::For(STDERR_FILENO, globals_.no_color)) {}

absl::StatusOr<client::Client*> Session::Connect(bool start) {
  if (client_ != nullptr) return client_.get();
  client::ClientOptions options;
  options.discovery = globals_.discovery;
  options.project = globals_.project;
  options.timeout = globals_.timeout;
  absl::StatusOr<client::Endpoint> endpoint = client::Discover(options.discovery);
  if (!endpoint.ok() && start && ReasonOf(endpoint.status()) == "DAEMON_NOT_RUNNING" &&
      !client::ServerGiven(options.discovery)) {
    ASSIGN_OR_RETURN(const client::StartedDaemon started, client::StartDaemon(options.discovery));
    if (started.ours) {
      Note(absl::StrCat("started orchd for you on ", started.endpoint.data_dir, "; stop it with `kill ", started.pid,
                        "`"));
    }
    endpoint = started.endpoint;
    // It listens, but may still be loading.
    options.connect_patience = std::chrono::milliseconds(20'000);
  }
  RETURN_IF_ERROR(endpoint.status());
  client_ = client::Client::ConnectTo(*endpoint, options);
  return client_.get();
}

absl::Status Session::Show(const google::protobuf::Message& message, const std::function<std::string()>& table,
                           const std::vector<std::string>& names) {
  std::string text;
  if (!globals_.jq.empty()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> results, RunJq(ToJson(message).dump(), globals_.jq));
    for (const std::string& result : results) absl::StrAppend(&text, result, "\n");
  } else if (globals_.format == "json") {
    text = ToJson(message).dump(2) + "\n";
  } else if (globals_.format == "yaml") {
    text = ToYaml(ToJson(message));
  } else if (globals_.format == "name") {
    for (const std::string& name : names) absl::StrAppend(&text, name, "\n");
  } else {
    text = table();
  }
  if (!WriteOut(text))
    return Error(absl::StatusCode::kDataLoss, "STDOUT_CLOSED", "stdout is closed or its disk is full");
  return absl::OkStatus();
}

void Session::Note(absl::string_view line) const {
  if (!globals_.quiet) WriteErr(absl::StrCat(line, "\n"));
}

}  // namespace orch::cli
