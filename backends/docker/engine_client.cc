#include "backends/docker/engine_client.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/check.h"

namespace orch::docker {
namespace {

// Of an engine over a network. One that is gone without a word is noticed so early; the kernel's own answer is a
// quarter of an hour for what is sent and not acknowledged, and never for a stream that only listens.
constexpr long kKeepAliveSeconds = 30;
constexpr unsigned kUnacknowledgedMillis = 30'000;

int OnSocket(void* /*unused*/, curl_socket_t fd, curlsocktype /*purpose*/) {
  (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMillis, sizeof(kUnacknowledgedMillis));
  return CURL_SOCKOPT_OK;
}

}  // namespace

struct EngineClient::Transfer {
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  std::string request;
  Data data;  // of a stream
  Done done;
  Answer answer;
  bool aborted = false;
  char error[CURL_ERROR_SIZE] = {};

  ~Transfer() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
  bool good() const {
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
  }
};

std::string Answer::message() const {
  if (status == 0) return failure;
  const auto parsed = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object() && parsed.contains("message") && parsed["message"].is_string()) {
    return parsed["message"].get<std::string>();
  }
  const absl::string_view text = absl::StripAsciiWhitespace(absl::string_view(body).substr(0, 500));
  return text.empty() ? absl::StrCat("HTTP ", status) : std::string(text);
}

EngineClient::EngineClient(EngineAddress address) : address_(std::move(address)) {
  static const bool kReady = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  CHECK(kReady);
  multi_ = curl_multi_init();
  CHECK(multi_ != nullptr);
}

EngineClient::~EngineClient() {
  TellCurl();
  for (const auto& [handle, id] : by_handle_) curl_multi_remove_handle(static_cast<CURLM*>(multi_), handle);
  transfers_.clear();
  curl_multi_cleanup(static_cast<CURLM*>(multi_));
}

size_t EngineClient::OnBody(char* bytes, size_t size, size_t count, void* transfer) {
  auto* t = static_cast<Transfer*>(transfer);
  const absl::string_view piece(bytes, size * count);
  if (t->aborted) return 0;
  constexpr size_t kMostBody = 64 << 20;
  if (t->data != nullptr && t->good()) {
    t->data(piece);
  } else if (t->answer.body.size() + piece.size() <= kMostBody) {
    t->answer.body.append(piece.data(), piece.size());
  } else {
    return 0;  // the transfer fails
  }
  return piece.size();
}

size_t EngineClient::OnHeader(char* bytes, size_t size, size_t count, void* transfer) {
  auto* t = static_cast<Transfer*>(transfer);
  const absl::string_view line(bytes, size * count);
  constexpr absl::string_view kVersion = "api-version:";
  if (absl::StartsWithIgnoreCase(line, kVersion)) {
    t->answer.api_version = std::string(absl::StripAsciiWhitespace(line.substr(kVersion.size())));
  }
  return line.size();
}

uint64_t EngineClient::Begin(std::unique_ptr<Transfer> transfer, const Request& request) {
  CURL* easy = curl_easy_init();
  CHECK(easy != nullptr);
  transfer->easy = easy;
  const std::string host = address_.socket.empty() ? address_.host : "docker";
  const std::string& certificates = address_.certificates;
  const char* const scheme = certificates.empty() ? "http://" : "https://";
  curl_easy_setopt(easy, CURLOPT_URL, absl::StrCat(scheme, host, request.path).c_str());
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));  // one call a connection
  if (!certificates.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, absl::StrCat(certificates, "/ca.pem").c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // nobody else is trusted
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);  // or it would be that of yesterday
#endif
    curl_easy_setopt(easy, CURLOPT_SSLCERT, absl::StrCat(certificates, "/cert.pem").c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, absl::StrCat(certificates, "/key.pem").c_str());
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  }
  if (!address_.socket.empty()) {
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address_.socket.c_str());
  } else {
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepAliveSeconds);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepAliveSeconds / 3);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &OnSocket);
  }
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, 10L);
  if (request.seconds > 0) curl_easy_setopt(easy, CURLOPT_TIMEOUT, static_cast<long>(request.seconds));
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  // libcurl sends a request again by itself if a connection that it had kept breaks before an answer: a start would be
  // asked for twice. A connection of its own is never tried again.
  if (request.method == "POST") curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  for (const std::string& header : request.headers) {
    transfer->headers = curl_slist_append(transfer->headers, header.c_str());
  }
  if (request.method == "POST") {
    const std::string type = "Content-Type: " + request.content_type;
    transfer->headers = curl_slist_append(transfer->headers, type.c_str());
    transfer->headers = curl_slist_append(transfer->headers, "Expect:");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer->request.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &EngineClient::OnBody);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer.get());
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &EngineClient::OnHeader);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer.get());
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
  const uint64_t id = next_++;
  by_handle_[easy] = id;
  transfers_[id] = std::move(transfer);
  begun_.push_back(easy);
  return id;
}

uint64_t EngineClient::Call(Request request, Done done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request.body);
  transfer->done = std::move(done);
  return Begin(std::move(transfer), request);
}

uint64_t EngineClient::Stream(Request request, Data data, Done done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request.body);
  transfer->data = std::move(data);
  transfer->done = std::move(done);
  return Begin(std::move(transfer), request);
}

uint64_t EngineClient::Call(const std::string& method, const std::string& path, std::string body, int seconds,
                            Done done) {
  Request request{method, path, std::move(body)};
  request.seconds = seconds;
  return Call(std::move(request), std::move(done));
}

uint64_t EngineClient::Stream(const std::string& method, const std::string& path, Data data, Done done) {
  return Stream(Request{method, path, ""}, std::move(data), std::move(done));
}

void EngineClient::Abort(uint64_t id) {
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;
  found->second->aborted = true;
  by_handle_.erase(found->second->easy);
  aborted_.push_back(std::move(found->second));
  transfers_.erase(found);
}

void EngineClient::TellCurl() {
  auto* multi = static_cast<CURLM*>(multi_);
  for (void* easy : std::exchange(begun_, {})) CHECK(curl_multi_add_handle(multi, easy) == CURLM_OK);
  for (const auto& transfer : std::exchange(aborted_, {})) curl_multi_remove_handle(multi, transfer->easy);
}

void EngineClient::Poll(int millis) {
  auto* multi = static_cast<CURLM*>(multi_);
  TellCurl();
  int running = 0;
  (void)curl_multi_perform(multi, &running);
  const auto work_off = [&] {
    bool any = false;
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      any = true;
      const auto id = by_handle_.find(message->easy_handle);
      if (id == by_handle_.end()) continue;
      const CURLcode code = message->data.result;
      std::unique_ptr<Transfer> transfer = std::move(transfers_.at(id->second));
      transfers_.erase(id->second);
      by_handle_.erase(id);
      curl_multi_remove_handle(multi, transfer->easy);
      long status = 0;
      curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
      Answer answer = std::move(transfer->answer);
      if (code == CURLE_OK) {
        answer.status = static_cast<int>(status);
      } else {
        answer.failure = transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
        answer.untrusted = code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION ||
                           code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE;
        answer.refused = answer.untrusted || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST;
      }
      transfer->done(std::move(answer));  // may begin and abort others
    }
    return any;
  };
  if (work_off()) return;
  TellCurl();
  (void)curl_multi_poll(multi, nullptr, 0, millis, nullptr);
  (void)curl_multi_perform(multi, &running);
  (void)work_off();
}

void EngineClient::Wake() { (void)curl_multi_wakeup(static_cast<CURLM*>(multi_)); }

std::string UrlEscape(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || absl::StrContains("-._~", absl::string_view(&c, 1))) {
      out.push_back(c);
    } else {
      absl::StrAppendFormat(&out, "%%%02X", byte);
    }
  }
  return out;
}

}  // namespace orch::docker
