#include "server/http/attempt_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/digest.h"
#include "server/base/status.h"
#include "server/engine/step_files.h"
#include "server/http/connect.h"
#include "server/rpc/errors.h"

namespace orch::http {
namespace {

constexpr absl::string_view kPrefix = "/attempt/v1/";
constexpr int64_t kMaxBody = 1 << 20;  // of calls that are no uploads
constexpr size_t kMaxLauncherId = 300;
constexpr char kListingType[] = "application/vnd.orchd.folder";

Response Refuse(const absl::Status& status) {
  const absl::Status sealed = rpc::Seal(status, "/attempt/v1");
  Response response = ConnectError(sealed);
  const std::string reason = ReasonOf(sealed);
  if (reason == "UPLOAD_OFFSET") {
    response.status = 409;
    response.headers.emplace_back("Upload-Offset", FactOf(sealed).second);
  } else if (reason == "ARTIFACT_TOO_LARGE" || reason == "SOURCE_TOO_LARGE" || reason == "LISTING_TOO_LARGE") {
    response.status = 413;
  } else if (reason == "DISK_FULL") {
    response.status = 507;
  } else if (reason == "DIGEST_MISMATCH") {
    response.status = 422;
  } else if (reason == "ATTEMPT_STALE" || reason == "ATTEMPT_TAKEN") {
    response.status = 409;
  }
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

Response Refuse(absl::StatusCode code, absl::string_view reason, absl::string_view message) {
  return Refuse(Error(code, reason, message));
}

Response Json(int status, std::string body) {
  Response response;
  response.status = status;
  response.content_type = "application/json";
  response.body = std::move(body);
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

Response At(const Deliveries::Progress& progress) {
  Response response;
  response.status = 204;
  response.headers = {{"Upload-Offset", absl::StrCat(progress.offset)},
                      {"Upload-Complete", progress.complete ? "?1" : "?0"},
                      {"Cache-Control", "no-store"}};
  return response;
}

// A file, or a text, with its range.
Response Send(StepFiles& files, const Request& request, const StepFiles::Found& found) {
  // A launcher that can follow is sent to the store itself; the address holds for minutes and names no key of ours.
  if (request.header("orch-redirects") == "1") {
    if (const std::string address = files.AddressOf(found); !address.empty()) {
      Response elsewhere;
      elsewhere.status = 307;
      elsewhere.headers = {{"Location", address}, {"Cache-Control", "no-store"}};
      if (found.what == StepFiles::Found::What::kListing) elsewhere.headers.emplace_back("Orch-Content", "folder");
      return elsewhere;
    }
  }
  int64_t size = static_cast<int64_t>(found.text.size());
  int fd = -1;
  if (!found.path.empty()) {
    fd = open(found.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st {};
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
      if (fd >= 0) close(fd);
      return Refuse(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING", "its bytes cannot be read any more");
    }
    size = st.st_size;
  }
  Response response;
  switch (found.what) {
    case StepFiles::Found::What::kBytes:
      response.content_type = "application/octet-stream";
      break;
    case StepFiles::Found::What::kListing:
      response.content_type = kListingType;
      break;
    case StepFiles::Found::What::kIndex:
      response.content_type = "application/json";
      break;
  }
  const std::string tag = found.digest.empty() ? "" : absl::StrCat("\"sha256:", Hex(found.digest), "\"");
  if (!tag.empty()) response.headers.emplace_back("ETag", tag);
  response.headers.emplace_back("Accept-Ranges", "bytes");
  response.headers.emplace_back("Cache-Control", "no-store");
  int64_t first = 0;
  int64_t last = size - 1;
  const std::string condition = request.header("if-range");
  const bool ranged =
      (condition.empty() || condition == tag) && ParseRange(request.header("range"), size, &first, &last);
  if (ranged && first >= size) {
    if (fd >= 0) close(fd);
    response.status = 416;
    response.headers.emplace_back("Content-Range", absl::StrCat("bytes */", size));
    return response;
  }
  if (ranged) {
    response.status = 206;
    response.headers.emplace_back("Content-Range", absl::StrCat("bytes ", first, "-", last, "/", size));
  } else {
    first = 0;
    last = size - 1;
  }
  if (fd >= 0) {
    response.file = std::make_shared<FileBody>(fd, first, last - first + 1);
  } else {
    response.body = found.text.substr(static_cast<size_t>(first), static_cast<size_t>(last - first + 1));
  }
  return response;
}

// `NAME` and what follows its slash.
std::pair<std::string, std::string> Split(absl::string_view rest) {
  const size_t slash = rest.find('/');
  if (slash == absl::string_view::npos) return {std::string(rest), ""};
  return {std::string(rest.substr(0, slash)), std::string(rest.substr(slash + 1))};
}

class UploadSink : public BodySink {
 public:
  explicit UploadSink(std::unique_ptr<Deliveries::Upload> upload) : upload_(std::move(upload)) {}
  bool Append(const std::string& bytes) override {
    if (status_.ok()) status_ = upload_->Append(bytes);
    return status_.ok();
  }
  Response Finish() override {
    if (!status_.ok()) return Refuse(status_);
    const auto progress = upload_->Finish();
    return progress.ok() ? At(*progress) : Refuse(progress.status());
  }

 private:
  const std::unique_ptr<Deliveries::Upload> upload_;
  absl::Status status_;
};

// What a launcher calls itself; empty: it does not.
std::string LauncherOf(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  const auto launcher = json.is_object() ? json.find("launcher") : json.end();
  if (!json.is_object() || launcher == json.end() || !launcher->is_string() ||
      launcher->get_ref<const std::string&>().size() > kMaxLauncherId) {
    return {};
  }
  return launcher->get<std::string>();
}

Response NoLauncher() {
  return Refuse(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID",
                absl::StrCat("send {\"launcher\": ID} with an id of at most ", kMaxLauncherId,
                             " bytes that no other launcher has"));
}

Response Begin(Engine& engine, const AttemptIdentity& attempt, const std::string& body) {
  const std::string launcher = LauncherOf(body);
  if (launcher.empty()) return NoLauncher();
  auto task = engine.BeginAttempt(attempt, launcher);
  return task.ok() ? Json(200, *std::move(task)) : Refuse(task.status());
}

Response Next(Engine& engine, const TaskIdentity& task, const std::string& body) {
  const std::string launcher = LauncherOf(body);
  if (launcher.empty()) return NoLauncher();
  const auto next = engine.FindNext(task, launcher);
  if (!next.ok()) return Refuse(next.status());
  nlohmann::json out = nlohmann::json::object();
  switch (next->what) {
    case NextAttempt::What::kWait:
      out["wait"] = true;
      break;
    case NextAttempt::What::kAttempt:
      out["attempt"] = {{"token", next->token}, {"fence", next->key}, {"number", next->attempt}};
      break;
    case NextAttempt::What::kOver:
      out["over"] = {{"state", Name(next->state)},
                     {"ok", IsOk(next->state) || next->state == StepState::kSkipped},
                     {"reason", next->reason == Reason::kNone ? "" : Name(next->reason)},
                     {"message", next->message}};
      break;
  }
  return Json(200, out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Response Alive(Engine& engine, const AttemptIdentity& attempt) {
  switch (engine.StopOf(attempt)) {
    case StopAsked::kNo:
      break;
    case StopAsked::kGraceful:
      return Json(200, R"({"stop":"graceful"})");
    case StopAsked::kForced:
      return Json(200, R"({"stop":"forced"})");
  }
  return Json(200, "{}");
}

Response PutOutput(StepFiles& files, const std::string& key, const std::string& name, const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  std::string hex;
  std::string kind;
  if (json.is_object() && json.contains("digest") && json["digest"].is_string()) {
    hex = HexOfDigest(json["digest"].get<std::string>());
  }
  if (json.is_object() && json.contains("kind") && json["kind"].is_string()) kind = json["kind"].get<std::string>();
  if (hex.empty() || (kind != "file" && kind != "folder")) {
    return Refuse(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID",
                  "send {\"digest\": \"sha256:HEX\", \"kind\": \"file\" or \"folder\"}");
  }
  const absl::Status status = files.PutOutput(key, name, hex, kind == "folder");
  return status.ok() ? Json(200, "{}") : Refuse(status);
}

// Where else these bytes may be sent, or that they are there now.
Response Elsewhere(StepFiles& files, const std::string& key, const std::string& hex, const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("sent") && json["sent"] == true) {
    const absl::Status taken = files.TakeSent(key, hex);
    if (!taken.ok()) return Refuse(taken);
    const auto progress = files.deliveries().ProgressOf(key, hex);
    return progress.ok() ? At(*progress) : Refuse(progress.status());
  }
  if (!json.is_object() || !json.contains("size") || !json["size"].is_number_integer() || json["size"] < 0) {
    return Refuse(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID",
                  "send {\"size\": N} to ask for an address, or {\"sent\": true}");
  }
  const auto progress = files.deliveries().ProgressOf(key, hex);
  if (!progress.ok()) return Refuse(progress.status());
  const auto address = progress->complete ? std::nullopt : files.UploadAddress(key, hex, json["size"].get<int64_t>());
  if (!address) return Json(200, "{}");
  nlohmann::json headers = nlohmann::json::object();
  for (const auto& [name, value] : address->headers) headers[name] = value;
  return Json(200, nlohmann::json{{"url", address->url}, {"headers", headers}}.dump());
}

Response End(Engine& engine, const AttemptIdentity& attempt, const std::string& body) {
  AttemptEnd end;
  if (!MergeEnd(body, &end)) {
    return Refuse(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID",
                  "send {\"exit_code\": N} or {\"signal\": N}, or a {\"reason\", \"message\"}");
  }
  const absl::Status status = engine.EndAttempt(attempt, body);
  return status.ok() ? Json(200, "{}") : Refuse(status);
}

}  // namespace

FileBody::~FileBody() {
  if (fd_ >= 0) close(fd_);
}

bool ParseRange(absl::string_view text, int64_t size, int64_t* first, int64_t* last) {
  if (!absl::ConsumePrefix(&text, "bytes=")) return false;
  const size_t dash = text.find('-');
  if (dash == absl::string_view::npos) return false;
  const auto number = [](absl::string_view digits, int64_t* out) {
    return !digits.empty() && digits.size() <= 18 &&
           std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
           absl::SimpleAtoi(digits, out);
  };
  int64_t from = 0;
  int64_t to = size - 1;
  if (dash == 0) {
    int64_t count = 0;
    if (!number(text.substr(1), &count)) return false;
    from = count == 0 ? size : std::max<int64_t>(0, size - count);
  } else {
    if (!number(text.substr(0, dash), &from)) return false;
    if (dash + 1 < text.size()) {
      if (!number(text.substr(dash + 1), &to) || to < from) return false;
      to = std::min(to, size - 1);
    }
  }
  *first = from;
  *last = to;
  return true;
}

bool AttemptCalls::Has(const std::string& path) { return absl::StartsWith(path, kPrefix); }

bool AttemptCalls::Streams(const Request& head) {
  return head.method == "PATCH" && absl::StartsWith(head.path, absl::StrCat(kPrefix, "blobs/"));
}

std::optional<Response> AttemptCalls::Precheck(const rpc::Identity& identity, const Request& head,
                                               int64_t content_length) const {
  const bool next = head.path == absl::StrCat(kPrefix, "next");
  if (identity.kind != (next ? rpc::Identity::Kind::kTask : rpc::Identity::Kind::kStep)) {
    return Refuse(absl::StatusCode::kPermissionDenied, "STEP_TOKEN",
                  next ? "this is for the launcher in a task of a whole run, which calls with the token in ORCH_TASK"
                       : "this is for the launcher of an attempt, which calls with the token in ORCH_TOKEN");
  }
  if (!Streams(head) && content_length > kMaxBody) {
    Response refusal = Refuse(absl::StatusCode::kResourceExhausted, "BODY_TOO_LARGE",
                              absl::StrCat("the body has ", content_length, " bytes; at most ", kMaxBody, " here"));
    refusal.status = 413;
    return refusal;
  }
  return std::nullopt;
}

Response AttemptCalls::Serve(const rpc::Identity& identity, const Request& request) const {
  if (auto refusal = Precheck(identity, request, static_cast<int64_t>(request.body.size()))) return *refusal;
  const std::string& key = identity.attempt.key;
  StepFiles& files = engine_.step_files();
  const absl::string_view call = absl::StripPrefix(absl::string_view(request.path), kPrefix);
  const auto [what, rest] = Split(call);
  const bool read = request.method == "GET" || request.method == "HEAD";
  const bool post = request.method == "POST";
  if (what == "next" && rest.empty() && post) return Next(engine_, identity.task, request.body);
  if (what == "begin" && rest.empty() && post) return Begin(engine_, identity.attempt, request.body);
  if (what == "alive" && rest.empty() && post) return Alive(engine_, identity.attempt);
  if (what == "end" && rest.empty() && post) return End(engine_, identity.attempt, request.body);
  if (what == "inputs" && !rest.empty() && read) {
    const auto [name, inside] = Split(rest);
    const auto found = files.FindInput(key, name, inside);
    return found.ok() ? Send(files, request, *found) : Refuse(found.status());
  }
  if (what == "source" && read) {
    const auto found = files.FindSource(key, rest);
    return found.ok() ? Send(files, request, *found) : Refuse(found.status());
  }
  if (what == "outputs" && !rest.empty() && post) return PutOutput(files, key, rest, request.body);
  if (what == "blobs" && request.method == "HEAD") {
    const std::string hex = HexOfDigest(rest);
    if (hex.empty()) return Refuse(absl::StatusCode::kInvalidArgument, "DIGEST_INVALID", "name it sha256:HEX");
    const auto progress = files.deliveries().ProgressOf(key, hex);
    return progress.ok() ? At(*progress) : Refuse(progress.status());
  }
  if (what == "blobs" && post) {
    const std::string hex = HexOfDigest(rest);
    if (hex.empty()) return Refuse(absl::StatusCode::kInvalidArgument, "DIGEST_INVALID", "name it sha256:HEX");
    return Elsewhere(files, key, hex, request.body);
  }
  const bool known = what == "next" || what == "begin" || what == "alive" || what == "end" || what == "inputs" ||
                     what == "source" || what == "outputs" || what == "blobs";
  Response refusal = Refuse(absl::StatusCode::kNotFound, "CALL_NOT_FOUND",
                            known ? "that is called with another method" : "there is no such call");
  if (known) refusal.status = 405;
  return refusal;
}

std::unique_ptr<BodySink> AttemptCalls::OpenSink(const rpc::Identity& identity, const Request& head,
                                                 Response* refusal) const {
  if (auto early = Precheck(identity, head, 0)) {
    *refusal = *std::move(early);
    return nullptr;
  }
  const std::string hex = HexOfDigest(absl::StripPrefix(absl::string_view(head.path), absl::StrCat(kPrefix, "blobs/")));
  int64_t offset = -1;
  int64_t length = -1;
  if (hex.empty() || !absl::SimpleAtoi(head.header("upload-offset"), &offset) ||
      !absl::SimpleAtoi(head.header("upload-length"), &length)) {
    *refusal = Refuse(absl::StatusCode::kInvalidArgument, "UPLOAD_INVALID",
                      "PATCH /attempt/v1/blobs/sha256:HEX with Upload-Offset and Upload-Length");
    return nullptr;
  }
  auto upload = engine_.step_files().deliveries().Append(identity.attempt.key, hex, offset, length);
  if (!upload.ok()) {
    *refusal = Refuse(upload.status());
    return nullptr;
  }
  return std::make_unique<UploadSink>(*std::move(upload));
}

}  // namespace orch::http
