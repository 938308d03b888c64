// A bucket of S3, or of a server that speaks like it: objects in and out, whole and with their digest, and addresses
// that others may use for a while. libcurl moves the bytes, sigv4.h signs.
//
// Any thread; every call blocks until it is done, was tried often enough, or the client is stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/s3/sigv4.h"

namespace orch::s3 {

struct BucketConfig {
  std::string bucket;
  std::string region = "us-east-1";
  std::string endpoint;     // `https://host:port`; empty: AWS's own of the region
  bool path_style = false;  // `endpoint/bucket/key` instead of `bucket.endpoint/key`
  std::string sse;          // `AES256`, `aws:kms`, or empty: as the bucket says
  std::string kms_key;
  std::string ca_file;  // who signs the server's certificate; empty: the system's
  // Up to this an object is sent whole; if that breaks on the way, and larger ones at once, in parts, some at a time.
  int64_t whole_bytes = int64_t{1} << 30;
  int64_t part_bytes = int64_t{32} << 20;
  int tries = 5;
};

// An address for somebody else, and the headers that must be sent with it.
struct Presigned {
  std::string url;
  Pairs headers;
};

class Client {
 public:
  using GetCredentials = std::function<absl::StatusOr<Credentials>()>;
  // `credentials` is asked for every call, so that they may change. `now`: microseconds UTC.
  Client(BucketConfig config, GetCredentials credentials, std::function<int64_t()> now);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Calls that are under way fail soon; no more are begun.
  void Stop();

  // Errors of all: NOT_FOUND (OBJECT_MISSING); FAILED_PRECONDITION (BUCKET_MISSING, STORE_REFUSED);
  // PERMISSION_DENIED (STORE_NO_PERMISSION); UNAUTHENTICATED (STORE_CREDENTIALS); DATA_LOSS (DIGEST_MISMATCH);
  // UNAVAILABLE (STORE_UNAVAILABLE) after the last try. Each has the server's own words.

  // The file's bytes, whose SHA-256 is `digest` (raw). The server checks it.
  absl::Status PutFile(const std::string& key, const std::string& path, int64_t size, absl::string_view digest);
  absl::Status PutText(const std::string& key, const std::string& text);
  // Into a new file at `path`, which is not there afterwards unless its SHA-256 is `digest` (empty: any).
  absl::Status GetFile(const std::string& key, const std::string& path, absl::string_view digest);
  // Its size.
  absl::StatusOr<int64_t> Head(const std::string& key);
  // OK also if it was not there.
  absl::Status Remove(const std::string& key);

  // Good for `seconds`. A PUT takes only bytes of this length and digest.
  absl::StatusOr<Presigned> PresignGet(const std::string& key, int64_t seconds);
  absl::StatusOr<Presigned> PresignPut(const std::string& key, int64_t size, absl::string_view digest, int64_t seconds);
  // Of any bytes: whoever has it may put what he wants under this key.
  absl::StatusOr<Presigned> PresignAnyPut(const std::string& key, int64_t seconds);

 private:
  absl::StatusOr<Presigned> PresignUpload(const std::string& key, Pairs demanded, int64_t seconds);
  struct Call;
  struct Reply;
  // One try.
  Reply Once(const Call& call, const Credentials& credentials);
  // Up to `tries` times.
  absl::Status Do(const Call& call, Reply* reply, int tries);
  absl::Status PutParts(const std::string& key, int fd, int64_t size);
  // Some at a time; `tags`: of each, in order.
  absl::Status SendParts(const std::string& key, const std::string& id, int fd, int64_t size, int64_t part,
                         std::vector<std::string>* tags);
  bool Wait(int64_t micros);
  std::string UrlOf(const std::string& path, const std::string& query) const;
  std::string PathOf(const std::string& key) const;

  const BucketConfig config_;
  const GetCredentials credentials_;
  const std::function<int64_t()> now_;
  std::string scheme_;
  std::string host_;  // with a port, if it is not the usual one
  Mutex mutex_;
  CondVar stopped_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

// `https://s3.eu-west-1.amazonaws.com` apart: scheme and authority. False if it is none.
bool SplitEndpoint(absl::string_view endpoint, std::string* scheme, std::string* authority);

// What is between `<name>` and `</name>` in an answer, unescaped; empty if it is not there.
std::string XmlText(absl::string_view xml, absl::string_view name);

}  // namespace orch::s3
