#include "backends/kubernetes/api/curl_transport.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "server/base/check.h"

namespace orch::kubernetes {
namespace {

constexpr size_t kMostBody = 64 << 20;
constexpr size_t kMostWarnings = 16;
constexpr long kConnectSeconds = 10;
constexpr long kKeepAliveSeconds = 30;
// Requests that are on their way at a time; others wait for these. Streams have no limit.
constexpr int kMostRequests = 64;
// For whatever finds no room on a connection curl makes another one, even if the last one is still being made: a burst
// of a thousand would make a thousand. So it is told of so many until these have one.
constexpr int kMostUnsent = 1;
// What is sent and not acknowledged for so long breaks the connection. The kernel's own answer is a quarter of an hour,
// in which a watch over a dead connection would look like one without news.
constexpr unsigned kUnacknowledgedMillis = 30'000;

int OnSocket(void* /*unused*/, curl_socket_t fd, curlsocktype /*purpose*/) {
  (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMillis, sizeof(kUnacknowledgedMillis));
  return CURL_SOCKOPT_OK;
}

// Many requests at once fill a connection, and what could not be written then is written later from elsewhere in
// memory, which OpenSSL refuses unless it is told: the connection would be dead, and libcurl 7.88 would go on waiting
// for it.
CURLcode OnTls(CURL* /*unused*/, void* context, void* /*unused*/) {
  SSL_CTX_set_mode(static_cast<SSL_CTX*>(context), SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return CURLE_OK;
}

curl_blob Blob(const std::string& bytes) {
  return {const_cast<char*>(bytes.data()), bytes.size(), CURL_BLOB_COPY};  // NOLINT: curl copies and does not write
}

// `10` of `Name: 10\r\n`; null if it is another header.
const char* ValueOf(absl::string_view line, absl::string_view name) {
  return absl::StartsWithIgnoreCase(line, name) ? line.data() + name.size() : nullptr;
}

}  // namespace

struct CurlTransport::Transfer {
  CurlTransport* owner = nullptr;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  curl_slist* connect_to = nullptr;
  HttpRequest request;
  Data data;
  Done done;
  HttpAnswer answer;
  bool told = false;   // curl knows it
  bool sent = false;   // it has a connection
  bool again = false;  // it was asked before
  bool aborted = false;
  char error[CURL_ERROR_SIZE] = {};

  ~Transfer() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
    curl_slist_free_all(connect_to);
  }
  long status() const {
    long out = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &out);
    return out;
  }
};

CurlTransport::CurlTransport(ServerAddress server) : server_(std::move(server)), base_(server_.url) {
  static const bool kReady = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  CHECK(kReady);
  multi_ = curl_multi_init();
  CHECK(multi_ != nullptr);
  curl_multi_setopt(static_cast<CURLM*>(multi_), CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
  if (server_.tls_server_name.empty()) return;
  // The name goes into the URL, so that it is what is asked for and checked; the connection goes where the server is.
  CURLU* url = curl_url();
  char *host = nullptr, *port = nullptr, *whole = nullptr;
  if (curl_url_set(url, CURLUPART_URL, server_.url.c_str(), 0) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
      curl_url_set(url, CURLUPART_HOST, server_.tls_server_name.c_str(), 0) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_URL, &whole, 0) == CURLUE_OK) {
    base_ = std::string(absl::StripSuffix(whole, "/"));
    connect_to_ = absl::StrCat("::", host, ":", port);
  }
  curl_free(host);
  curl_free(port);
  curl_free(whole);
  curl_url_cleanup(url);
}

CurlTransport::~CurlTransport() {
  requests_.clear();
  streams_.clear();
  TellCurl();
  for (const auto& [id, transfer] : transfers_) {
    if (transfer->told) curl_multi_remove_handle(static_cast<CURLM*>(multi_), transfer->easy);
  }
  transfers_.clear();
  curl_multi_cleanup(static_cast<CURLM*>(multi_));
}

void CurlTransport::UseCertificate(const std::string& certificate_pem, const std::string& key_pem) {
  certificate_ = certificate_pem;
  key_ = key_pem;
}

size_t CurlTransport::OnBody(char* bytes, size_t size, size_t count, void* transfer) {
  auto* t = static_cast<Transfer*>(transfer);
  const absl::string_view piece(bytes, size * count);
  if (t->aborted) return 0;
  if (t->data != nullptr && t->status() / 100 == 2) {
    t->data(piece);
  } else if (t->answer.body.size() + piece.size() <= kMostBody) {
    t->answer.body.append(piece.data(), piece.size());
  } else {
    return 0;  // the transfer fails
  }
  return piece.size();
}

size_t CurlTransport::OnHeader(char* bytes, size_t size, size_t count, void* transfer) {
  auto* t = static_cast<Transfer*>(transfer);
  const absl::string_view line(bytes, size * count);
  const auto rest = [&](const char* from) {
    return std::string(absl::StripAsciiWhitespace(absl::string_view(from, line.data() + line.size() - from)));
  };
  if (absl::StartsWith(line, "HTTP/")) {  // another answer begins, after a redirect or of a proxy
    t->answer.retry_after.clear();
    t->answer.warnings.clear();
  } else if (const char* after = ValueOf(line, "retry-after:")) {
    t->answer.retry_after = rest(after);
  } else if (const char* warning = ValueOf(line, "warning:"); warning && t->answer.warnings.size() < kMostWarnings) {
    t->answer.warnings.push_back(rest(warning));
  }
  return line.size();
}

uint64_t CurlTransport::Begin(HttpRequest request, Data data, Done done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->owner = this;
  transfer->request = std::move(request);
  transfer->data = std::move(data);
  transfer->done = std::move(done);
  const uint64_t id = next_++;
  std::deque<uint64_t>& queue = transfer->data != nullptr ? streams_ : requests_;
  queue.insert(transfer->request.first ? queue.begin() : queue.end(), id);
  transfers_[id] = std::move(transfer);
  return id;
}

// Only when it is its turn: a handle of curl's has ten times the memory of what waits for one.
void CurlTransport::MakeHandle(uint64_t id, Transfer* transfer) {
  CURL* easy = curl_easy_init();
  CHECK(easy != nullptr);
  transfer->easy = easy;
  by_handle_[easy] = id;
  const HttpRequest& request = transfer->request;
  curl_easy_setopt(easy, CURLOPT_URL, absl::StrCat(base_, request.path).c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  if (!connect_to_.empty()) {
    transfer->connect_to = curl_slist_append(nullptr, connect_to_.c_str());
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer->connect_to);
  }
  if (!server_.proxy.empty()) curl_easy_setopt(easy, CURLOPT_PROXY, server_.proxy.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);  // for a connection that is being made and can be shared
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepAliveSeconds);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepAliveSeconds / 3);
  curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &OnSocket);
  if (request.seconds > 0) curl_easy_setopt(easy, CURLOPT_TIMEOUT, static_cast<long>(request.seconds));
  if (server_.insecure) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  } else if (!server_.ca_pem.empty()) {
    const curl_blob ca = Blob(server_.ca_pem);
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &ca);
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // the system's authorities have no say then
  }
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, &OnTls);
  if (!certificate_.empty()) {
    const curl_blob certificate = Blob(certificate_);
    const curl_blob key = Blob(key_);
    curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &certificate);
    curl_easy_setopt(easy, CURLOPT_SSLCERTTYPE, "PEM");
    curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    curl_easy_setopt(easy, CURLOPT_SSLKEYTYPE, "PEM");
  }
  // libcurl may send a request again if a connection that it had kept breaks before an answer. What is created here has
  // a name of its own, so that a second creation is refused: nothing is made twice by it.
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  const auto add = [&](const std::string& header) {
    transfer->headers = curl_slist_append(transfer->headers, header.c_str());
  };
  for (const std::string& header : request.headers) add(header);
  if (!transfer->request.body.empty()) {
    add(absl::StrCat("Content-Type: ", request.content_type));
    add("Expect:");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer->request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request.body.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &CurlTransport::OnBody);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &CurlTransport::OnHeader);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &CurlTransport::OnSent);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
}

int CurlTransport::OnSent(void* transfer, char* /*there*/, char* /*here*/, int /*port_there*/, int /*port_here*/) {
  auto* t = static_cast<Transfer*>(transfer);
  if (t->aborted) return CURL_PREREQFUNC_ABORT;
  if (!std::exchange(t->sent, true)) --t->owner->unsent_;
  return CURL_PREREQFUNC_OK;
}

void CurlTransport::Forget(const Transfer& transfer) {
  by_handle_.erase(transfer.easy);
  if (!transfer.told) return;
  if (transfer.data == nullptr) --requests_told_;
  if (!transfer.sent) --unsent_;
}

void CurlTransport::Abort(uint64_t id) {
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;
  Forget(*found->second);
  found->second->aborted = true;
  if (found->second->told) aborted_.push_back(std::move(found->second));
  transfers_.erase(found);
}

bool CurlTransport::MayTell() const {
  if (unsent_ >= kMostUnsent) return false;
  return !streams_.empty() || (!requests_.empty() && requests_told_ < kMostRequests);
}

void CurlTransport::TellCurl() {
  auto* multi = static_cast<CURLM*>(multi_);
  for (const auto& transfer : std::exchange(aborted_, {})) curl_multi_remove_handle(multi, transfer->easy);
  while (MayTell()) {
    const bool request = !requests_.empty() && requests_told_ < kMostRequests;
    std::deque<uint64_t>& queue = request ? requests_ : streams_;
    const auto found = transfers_.find(queue.front());
    queue.pop_front();
    if (found == transfers_.end()) continue;  // aborted meanwhile
    if (found->second->easy == nullptr) MakeHandle(found->first, found->second.get());
    found->second->told = true;
    ++unsent_;
    if (request) ++requests_told_;
    CHECK(curl_multi_add_handle(multi, found->second->easy) == CURLM_OK);
  }
}

// A server that refuses a request before it has read its body sends its answer and resets the stream, and libcurl 7.88
// takes the reset for the end of both: what was wrong would never be known. It was refused, so it may be asked again,
// in a way that has no streams.
void CurlTransport::Again(uint64_t id, Transfer* transfer) {
  --requests_told_;
  if (!transfer->sent) --unsent_;
  transfer->again = true;
  transfer->told = transfer->sent = false;
  transfer->answer = {};
  transfer->error[0] = '\0';
  curl_easy_setopt(transfer->easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L);
  curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
  requests_.push_front(id);
}

void CurlTransport::FailWaiting(const HttpAnswer& why) {
  const auto requests = std::exchange(requests_, {});
  const auto streams = std::exchange(streams_, {});
  for (const auto* queue : {&requests, &streams}) {
    for (const uint64_t id : *queue) {
      const auto found = transfers_.find(id);
      if (found == transfers_.end()) continue;
      const std::unique_ptr<Transfer> transfer = std::move(found->second);
      transfers_.erase(found);
      Forget(*transfer);
      transfer->done(why);
    }
  }
}

bool CurlTransport::WorkOff() {
  auto* multi = static_cast<CURLM*>(multi_);
  bool any = false;
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    any = true;
    const auto id = by_handle_.find(message->easy_handle);
    if (id == by_handle_.end()) continue;
    const CURLcode code = message->data.result;
    const auto found = transfers_.find(id->second);
    curl_multi_remove_handle(multi, found->second->easy);
    const long status = found->second->status();
    if (code != CURLE_OK && status >= 400 && found->second->data == nullptr && !found->second->again) {
      Again(found->first, found->second.get());
      continue;
    }
    std::unique_ptr<Transfer> transfer = std::move(found->second);
    transfers_.erase(found);
    Forget(*transfer);
    HttpAnswer answer = std::move(transfer->answer);
    answer.begun = transfer->data != nullptr && status >= 200 && status < 300;
    if (code == CURLE_OK) {
      answer.status = static_cast<int>(status);
    } else {
      answer.failure = transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
      answer.unheard = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                       code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_PEER_FAILED_VERIFICATION ||
                       code == CURLE_SSL_CONNECT_ERROR;
    }
    const HttpAnswer why = answer;
    transfer->done(std::move(answer));  // may begin and abort others
    if (why.unheard) FailWaiting(why);  // of this server's others none would fare better
  }
  return any;
}

void CurlTransport::Poll(int millis, const std::vector<int>& fds) {
  auto* multi = static_cast<CURLM*>(multi_);
  int running = 0;
  do {
    TellCurl();
    (void)curl_multi_perform(multi, &running);
    if (WorkOff()) return;
  } while (MayTell());
  std::vector<curl_waitfd> more;
  more.reserve(fds.size());
  for (const int fd : fds) more.push_back({fd, CURL_WAIT_POLLIN, 0});
  (void)curl_multi_poll(multi, more.data(), static_cast<unsigned>(more.size()), millis, nullptr);
  (void)curl_multi_perform(multi, &running);
  (void)WorkOff();
}

void CurlTransport::Wake() { (void)curl_multi_wakeup(static_cast<CURLM*>(multi_)); }

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

}  // namespace orch::kubernetes
