#include "server/s3/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::s3 {
namespace {

constexpr int64_t kFirstWait = 100'000;
constexpr int64_t kLastWait = 5'000'000;
constexpr size_t kMaxAnswer = 4 << 20;
constexpr long kConnectSeconds = 10;
constexpr long kStallSeconds = 30;  // without a byte
constexpr int64_t kMinPart = int64_t{5} << 20;
constexpr int64_t kMaxParts = 10'000;
constexpr size_t kPartsAtOnce = 4;  // one is hashed while others are under way
constexpr size_t kHashPiece = 256 << 10;

absl::Status FileTrouble(absl::string_view what, const std::string& path) {
  return Error(absl::StatusCode::kInternal, "STORE_FAILED",
               absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
}

// Hex SHA-256 of a piece of a file, which is sent after it: in memory it never is as a whole.
absl::StatusOr<std::string> HashOf(int fd, int64_t offset, int64_t length) {
  Sha256 hash;
  const auto buffer = std::make_unique<char[]>(kHashPiece);
  for (int64_t at = 0; at < length;) {
    const ssize_t n =
        pread(fd, buffer.get(), std::min<size_t>(kHashPiece, static_cast<size_t>(length - at)), offset + at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return FileTrouble("read", "a part");
    hash.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    at += n;
  }
  return Hex(hash.Finish());
}

std::string Base64(absl::string_view bytes) { return absl::Base64Escape(bytes); }

}  // namespace

bool SplitEndpoint(absl::string_view endpoint, std::string* scheme, std::string* authority) {
  for (const absl::string_view known : {absl::string_view("https"), absl::string_view("http")}) {
    absl::string_view rest = endpoint;
    if (!absl::ConsumePrefix(&rest, known) || !absl::ConsumePrefix(&rest, "://")) continue;
    rest = absl::StripSuffix(rest, "/");
    const bool plain = !rest.empty() && std::all_of(rest.begin(), rest.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-.:[]", c);
    });
    if (!plain) return false;
    *scheme = std::string(known);
    *authority = absl::AsciiStrToLower(rest);
    const absl::string_view usual = known == "https" ? ":443" : ":80";
    *authority = std::string(absl::StripSuffix(*authority, usual));
    return true;
  }
  return false;
}

std::string XmlText(absl::string_view xml, absl::string_view name) {
  const std::string open = absl::StrCat("<", name, ">");
  const size_t begin = xml.find(open);
  if (begin == absl::string_view::npos) return {};
  const absl::string_view rest = xml.substr(begin + open.size());
  const size_t end = rest.find(absl::StrCat("</", name, ">"));
  if (end == absl::string_view::npos) return {};
  return absl::StrReplaceAll(rest.substr(0, end),
                             {{"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&#34;", "\""}});
}

struct Client::Call {
  std::string method = "GET";
  std::string key;
  Pairs query;
  Pairs headers;  // besides host and those of the signature; all are signed
  std::string payload_hash = kEmptyHash;
  const std::string* text = nullptr;  // the body, or
  int fd = -1;                        // a piece of this file
  int64_t offset = 0;
  int64_t length = 0;
  std::function<bool(absl::string_view)> take;  // gets the body of a good answer
};

struct Client::Reply {
  long status = 0;  // 0: none came whole
  std::string error;
  std::string body;
  std::map<std::string, std::string> headers;  // in lower case
  int64_t sent = 0;
  const Call* call = nullptr;
  int64_t read_at = 0;
  bool refused_by_taker = false;

  static size_t Read(char* out, size_t size, size_t count, void* self) {
    auto* reply = static_cast<Reply*>(self);
    const Call& call = *reply->call;
    const auto room = static_cast<int64_t>(size * count);
    const int64_t n = std::min(room, call.length - reply->read_at);
    if (n <= 0) return 0;
    if (call.text != nullptr) {
      memcpy(out, call.text->data() + reply->read_at, static_cast<size_t>(n));
      reply->read_at += n;
      return static_cast<size_t>(n);
    }
    const ssize_t got = pread(call.fd, out, static_cast<size_t>(n), call.offset + reply->read_at);
    if (got <= 0) return CURL_READFUNC_ABORT;
    reply->read_at += got;
    return static_cast<size_t>(got);
  }
  static int Seek(void* self, curl_off_t offset, int origin) {
    if (origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
    static_cast<Reply*>(self)->read_at = offset;
    return CURL_SEEKFUNC_OK;
  }
  static size_t Write(char* data, size_t size, size_t count, void* self) {
    auto* reply = static_cast<Reply*>(self);
    const size_t n = size * count;
    long status = 0;
    curl_easy_getinfo(reply->handle, CURLINFO_RESPONSE_CODE, &status);
    if (reply->call->take && (status == 200 || status == 206)) {
      if (!reply->call->take(absl::string_view(data, n))) {
        reply->refused_by_taker = true;
        return 0;
      }
      return n;
    }
    if (reply->body.size() + n <= kMaxAnswer) reply->body.append(data, n);
    return n;
  }
  static size_t Header(char* data, size_t size, size_t count, void* self) {
    auto* reply = static_cast<Reply*>(self);
    const absl::string_view line(data, size * count);
    if (absl::StartsWith(line, "HTTP/")) reply->headers.clear();
    const size_t colon = line.find(':');
    if (colon != absl::string_view::npos) {
      reply->headers[absl::AsciiStrToLower(line.substr(0, colon))] =
          std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
    return size * count;
  }
  static int Progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const Client* client = static_cast<Reply*>(self)->client;
    MutexLock lock(const_cast<Mutex*>(&client->mutex_));
    return client->stopping_ ? 1 : 0;
  }
  CURL* handle = nullptr;
  const Client* client = nullptr;
};

Client::Client(BucketConfig config, GetCredentials credentials, std::function<int64_t()> now)
    : config_(std::move(config)), credentials_(std::move(credentials)), now_(std::move(now)) {
  static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)kReady;
  const std::string endpoint =
      config_.endpoint.empty() ? absl::StrCat("https://s3.", config_.region, ".amazonaws.com") : config_.endpoint;
  (void)SplitEndpoint(endpoint, &scheme_, &host_);
  if (!config_.path_style) host_ = absl::StrCat(config_.bucket, ".", host_);
}

Client::~Client() { Stop(); }

void Client::Stop() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  stopped_.NotifyAll();
}

bool Client::Wait(int64_t micros) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(micros);
  MutexLock lock(&mutex_);
  while (!stopping_) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return true;
    (void)stopped_.WaitFor(&mutex_, left);
  }
  return false;
}

std::string Client::PathOf(const std::string& key) const {
  return config_.path_style ? absl::StrCat("/", config_.bucket, key.empty() ? "" : "/", key) : absl::StrCat("/", key);
}

std::string Client::UrlOf(const std::string& path, const std::string& query) const {
  return absl::StrCat(scheme_, "://", host_, Escape(path, /*keep_slash=*/true), query.empty() ? "" : "?", query);
}

Client::Reply Client::Once(const Call& call, const Credentials& credentials) {
  Reply reply;
  reply.call = &call;
  reply.client = this;
  CURL* handle = curl_easy_init();
  if (handle == nullptr) {
    reply.error = "no memory";
    return reply;
  }
  const auto clean = absl::MakeCleanup([&] { curl_easy_cleanup(handle); });
  reply.handle = handle;
  const std::string date = AmzDate(now_());
  SignedRequest request;
  request.method = call.method;
  request.path = PathOf(call.key);
  request.query = call.query;
  request.headers = call.headers;
  request.headers.emplace_back("host", host_);
  request.headers.emplace_back("x-amz-date", date);
  request.headers.emplace_back("x-amz-content-sha256", call.payload_hash);
  if (!credentials.session_token.empty()) {
    request.headers.emplace_back("x-amz-security-token", credentials.session_token);
  }
  request.payload_hash = call.payload_hash;
  curl_slist* headers = nullptr;
  const auto free_headers = absl::MakeCleanup([&] { curl_slist_free_all(headers); });
  const auto add = [&](const std::string& line) { headers = curl_slist_append(headers, line.c_str()); };
  for (const auto& [name, value] : request.headers) add(absl::StrCat(name, ": ", value));
  add(absl::StrCat("Authorization: ", Authorization(request, credentials, {config_.region, "s3"}, date)));
  add("Content-Type:");  // none of curl's own
  add("Expect:");
  const std::string url = UrlOf(request.path, CanonicalQuery(call.query));
  char error[CURL_ERROR_SIZE] = {};
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 512L << 10);
  curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
  curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  if (!config_.ca_file.empty()) curl_easy_setopt(handle, CURLOPT_CAINFO, config_.ca_file.c_str());
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Reply::Write);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &reply);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &Reply::Header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &reply);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, &Reply::Progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &reply);
  if (call.method == "HEAD") {
    curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
  } else if (call.method == "PUT" || call.method == "POST") {
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, call.method.c_str());
    curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(call.length));
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, &Reply::Read);
    curl_easy_setopt(handle, CURLOPT_READDATA, &reply);
    curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, &Reply::Seek);
    curl_easy_setopt(handle, CURLOPT_SEEKDATA, &reply);
  } else if (call.method != "GET") {
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, call.method.c_str());
  }
  const CURLcode code = curl_easy_perform(handle);
  if (code == CURLE_OK) {
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &reply.status);
  } else {
    reply.error = error[0] != '\0' ? error : curl_easy_strerror(code);
    long status = 0;  // a refusal may have come before all was sent
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400 && status < 500) reply.status = status;
  }
  return reply;
}

absl::Status Client::Do(const Call& call, Reply* reply, int tries) {
  int64_t wait = kFirstWait;
  for (int tried = 1;; ++tried) {
    ASSIGN_OR_RETURN(const Credentials credentials, credentials_());
    *reply = Once(call, credentials);
    if (reply->status >= 200 && reply->status < 300 && reply->error.empty()) return absl::OkStatus();
    const std::string code = XmlText(reply->body, "Code");
    std::string words = XmlText(reply->body, "Message");
    if (words.empty()) words = reply->error.empty() ? absl::StrCat("HTTP status ", reply->status) : reply->error;
    const std::string what = absl::StrCat("the store at ", scheme_, "://", host_, " (bucket ", config_.bucket,
                                          "): ", code, code.empty() ? "" : ": ", words);
    const bool again = reply->status == 0 || reply->status >= 500 || reply->status == 429 || reply->status == 408 ||
                       code == "SlowDown" || code == "RequestTimeout" || code == "OperationAborted" ||
                       code == "BadDigest" || code == "XAmzContentSHA256Mismatch" || code == "IncompleteBody";
    if (reply->refused_by_taker) return Error(absl::StatusCode::kInternal, "STORE_FAILED", "its bytes cannot be kept");
    if (again && tried < tries && Wait(wait)) {
      wait = std::min(2 * wait, kLastWait);
      continue;
    }
    if (again) {
      if (code == "BadDigest" || code == "XAmzContentSHA256Mismatch") {
        return Error(absl::StatusCode::kDataLoss, "DIGEST_MISMATCH", what);
      }
      return Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", absl::StrCat(what, " (", tried, " tries)"));
    }
    if (code == "NoSuchBucket") return Error(absl::StatusCode::kFailedPrecondition, "BUCKET_MISSING", what);
    if (code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "ExpiredToken" ||
        code == "InvalidToken" || code == "RequestTimeTooSkewed" || code == "AuthorizationHeaderMalformed" ||
        reply->status == 401) {
      return Error(absl::StatusCode::kUnauthenticated, "STORE_CREDENTIALS", what);
    }
    if (reply->status == 403) return Error(absl::StatusCode::kPermissionDenied, "STORE_NO_PERMISSION", what);
    if (reply->status == 404) return Error(absl::StatusCode::kNotFound, "OBJECT_MISSING", what);
    return Error(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", what);
  }
}

absl::Status Client::PutFile(const std::string& key, const std::string& path, int64_t size, absl::string_view digest) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileTrouble("open", path);
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  if (size > config_.whole_bytes) return PutParts(key, fd, size);
  Call call;
  call.method = "PUT";
  call.key = key;
  call.fd = fd;
  call.length = size;
  call.payload_hash = Hex(digest);  // so the server refuses other bytes
  if (!config_.sse.empty()) call.headers.emplace_back("x-amz-server-side-encryption", config_.sse);
  if (!config_.kms_key.empty())
    call.headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", config_.kms_key);
  Reply reply;
  const bool divisible = size > 2 * config_.part_bytes;  // what broke on the way once need not begin anew each time
  const absl::Status sent = Do(call, &reply, divisible ? 1 : config_.tries);
  return divisible && ReasonOf(sent) == "STORE_UNAVAILABLE" ? PutParts(key, fd, size) : sent;
}

absl::Status Client::PutText(const std::string& key, const std::string& text) {
  Call call;
  call.method = "PUT";
  call.key = key;
  call.text = &text;
  call.length = static_cast<int64_t>(text.size());
  call.payload_hash = Hex(Sha256Of(text));
  if (!config_.sse.empty()) call.headers.emplace_back("x-amz-server-side-encryption", config_.sse);
  if (!config_.kms_key.empty())
    call.headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", config_.kms_key);
  Reply reply;
  return Do(call, &reply, config_.tries);
}

absl::Status Client::PutParts(const std::string& key, int fd, int64_t size) {
  Reply reply;
  Call begin;
  begin.method = "POST";
  begin.key = key;
  begin.query = {{"uploads", ""}};
  if (!config_.sse.empty()) begin.headers.emplace_back("x-amz-server-side-encryption", config_.sse);
  if (!config_.kms_key.empty())
    begin.headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", config_.kms_key);
  RETURN_IF_ERROR(Do(begin, &reply, config_.tries));
  const std::string id = XmlText(reply.body, "UploadId");
  if (id.empty()) return Error(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", "it began no upload in parts");
  const auto abandon = [&](absl::Status why) {  // half of it would be paid for
    Call abort;
    abort.method = "DELETE";
    abort.key = key;
    abort.query = {{"uploadId", id}};
    Reply ignored;
    (void)Do(abort, &ignored, config_.tries);
    return why;
  };
  const int64_t part = std::max({config_.part_bytes, kMinPart, (size + kMaxParts - 1) / kMaxParts});
  std::vector<std::string> tags(static_cast<size_t>((size + part - 1) / part));
  if (const absl::Status sent = SendParts(key, id, fd, size, part, &tags); !sent.ok()) return abandon(sent);
  std::string list = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
  for (size_t i = 0; i < tags.size(); ++i) {
    absl::StrAppend(&list, "<Part><PartNumber>", i + 1, "</PartNumber><ETag>",
                    absl::StrReplaceAll(tags[i], {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}}), "</ETag></Part>");
  }
  list += "</CompleteMultipartUpload>";
  Call end;
  end.method = "POST";
  end.key = key;
  end.query = {{"uploadId", id}};
  end.text = &list;
  end.length = static_cast<int64_t>(list.size());
  end.payload_hash = Hex(Sha256Of(list));
  if (const absl::Status done = Do(end, &reply, config_.tries); !done.ok()) {
    // A lost answer to a first try: the upload is no more, and the object is there.
    if (XmlText(reply.body, "Code") == "NoSuchUpload") {
      const auto there = Head(key);
      if (there.ok() && *there == size) return absl::OkStatus();
    }
    return abandon(done);
  }
  if (XmlText(reply.body, "ETag").empty()) {  // 200 with an error inside
    return abandon(Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE",
                         absl::StrCat("the upload in parts was not completed: ", XmlText(reply.body, "Message"))));
  }
  return absl::OkStatus();
}

absl::Status Client::SendParts(const std::string& key, const std::string& id, int fd, int64_t size, int64_t part,
                               std::vector<std::string>* tags) {
  std::atomic<size_t> next{0};
  Mutex mutex;
  absl::Status first;  // that failed
  const auto work = [&] {
    for (size_t i = next++; i < tags->size(); i = next++) {
      Call put;
      put.method = "PUT";
      put.key = key;
      put.query = {{"partNumber", absl::StrCat(i + 1)}, {"uploadId", id}};
      put.fd = fd;
      put.offset = static_cast<int64_t>(i) * part;
      put.length = std::min(part, size - put.offset);
      Reply reply;
      absl::StatusOr<std::string> hash = HashOf(fd, put.offset, put.length);
      absl::Status sent = hash.status();
      if (hash.ok()) {
        put.payload_hash = *std::move(hash);
        sent = Do(put, &reply, config_.tries);
      }
      (*tags)[i] = reply.headers["etag"];
      if (sent.ok()) continue;
      next = tags->size();  // the others end with what they are at
      MutexLock lock(&mutex);
      first.Update(sent);
    }
  };
  std::vector<std::thread> others;
  for (size_t i = 1; i < std::min(kPartsAtOnce, tags->size()); ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  MutexLock lock(&mutex);
  return first;
}

absl::Status Client::GetFile(const std::string& key, const std::string& path, absl::string_view digest) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return FileTrouble("create", path);
  bool good = false;
  const auto close_fd = absl::MakeCleanup([&] {
    close(fd);
    if (!good) unlink(path.c_str());
  });
  Sha256 hash;
  int64_t have = 0;
  std::string error;
  absl::Status status;
  for (int tried = 1;; ++tried) {
    Call call;
    call.key = key;
    if (have > 0) call.headers.emplace_back("range", absl::StrCat("bytes=", have, "-"));
    call.take = [&](absl::string_view bytes) {
      hash.Update(bytes);
      have += static_cast<int64_t>(bytes.size());
      while (!bytes.empty()) {
        const ssize_t n = write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
      }
      return true;
    };
    const int64_t before = have;
    ASSIGN_OR_RETURN(const Credentials credentials, credentials_());
    const Reply reply = Once(call, credentials);
    if (reply.refused_by_taker) return FileTrouble("write", path);
    if (reply.error.empty() && (reply.status == 206 || (reply.status == 200 && before == 0))) break;
    if (have > 0 && reply.status == 416) break;  // all of it was there
    const bool broke = reply.status == 0 || !reply.error.empty() || reply.status >= 500;
    if (broke && (have > before || tried < config_.tries) && Wait(kFirstWait << std::min(tried, 5))) {
      if (have > before) tried = 0;
      continue;
    }
    // The words of a refusal come with a call that keeps nothing.
    Call ask;
    ask.key = key;
    ask.headers = {{"range", "bytes=0-0"}};
    Reply answer;
    status = Do(ask, &answer, config_.tries);
    if (!status.ok()) return status;
    return Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE",
                 absl::StrCat("the store at ", host_, ": ", reply.error));
  }
  const std::string got = hash.Finish();
  if (!digest.empty() && got != digest) {
    return Error(
        absl::StatusCode::kDataLoss, "DIGEST_MISMATCH",
        absl::StrCat("the store at ", host_, " has sha256:", Hex(got), " at ", key, ", not sha256:", Hex(digest)));
  }
  good = true;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Client::Head(const std::string& key) {
  Call call;
  call.method = "HEAD";
  call.key = key;
  Reply reply;
  const absl::Status status = Do(call, &reply, config_.tries);
  if (!status.ok()) {
    if (status.code() != absl::StatusCode::kNotFound) {  // a HEAD has no words
      Call ask;
      ask.key = key;
      ask.headers = {{"range", "bytes=0-0"}};
      const absl::Status words = Do(ask, &reply, config_.tries);
      return words.ok() ? status : words;
    }
    return status;
  }
  return strtoll(reply.headers["content-length"].c_str(), nullptr, 10);
}

absl::Status Client::Remove(const std::string& key) {
  Call call;
  call.method = "DELETE";
  call.key = key;
  Reply reply;
  const absl::Status status = Do(call, &reply, config_.tries);
  return ReasonOf(status) == "OBJECT_MISSING" ? absl::OkStatus() : status;
}

absl::StatusOr<Presigned> Client::PresignGet(const std::string& key, int64_t seconds) {
  ASSIGN_OR_RETURN(const Credentials credentials, credentials_());
  SignedRequest request;
  request.path = PathOf(key);
  request.headers = {{"host", host_}};
  request.payload_hash = kUnsigned;
  return Presigned{
      UrlOf(request.path, PresignedQuery(request, credentials, {config_.region, "s3"}, AmzDate(now_()), seconds)), {}};
}

absl::StatusOr<Presigned> Client::PresignPut(const std::string& key, int64_t size, absl::string_view digest,
                                             int64_t seconds) {
  return PresignUpload(key, {{"content-length", absl::StrCat(size)}, {"x-amz-checksum-sha256", Base64(digest)}},
                       seconds);
}

absl::StatusOr<Presigned> Client::PresignAnyPut(const std::string& key, int64_t seconds) {
  return PresignUpload(key, {}, seconds);
}

absl::StatusOr<Presigned> Client::PresignUpload(const std::string& key, Pairs demanded, int64_t seconds) {
  ASSIGN_OR_RETURN(const Credentials credentials, credentials_());
  SignedRequest request;
  request.method = "PUT";
  request.path = PathOf(key);
  request.payload_hash = kUnsigned;
  request.headers = std::move(demanded);
  if (!config_.sse.empty()) request.headers.emplace_back("x-amz-server-side-encryption", config_.sse);
  if (!config_.kms_key.empty()) {
    request.headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", config_.kms_key);
  }
  Presigned out;
  for (const auto& header : request.headers) {
    if (header.first != "content-length") out.headers.push_back(header);  // every client sends that by itself
  }
  request.headers.emplace_back("host", host_);
  out.url = UrlOf(request.path, PresignedQuery(request, credentials, {config_.region, "s3"}, AmzDate(now_()), seconds));
  return out;
}

}  // namespace orch::s3
