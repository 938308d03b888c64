// The credentials that the platform gives the daemon: the chain of AWS's own tools, in their order.
//
//   1. environment      AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//   2. web identity     AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN: a token of the cluster for a role's (STS)
//   3. profile          AWS_PROFILE in AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials
//   4. container role   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI, with its token
//   5. machine role     the machine's metadata service, by sessions (IMDSv2) alone
//
// The first that is there is the one: if it gives nothing, that is said, and no other is asked.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/s3/sigv4.h"

namespace orch::s3 {

// What one of them answered.
struct Granted {
  Credentials credentials;
  int64_t expires = 0;  // microseconds UTC; 0: nobody says for how long, so they are not kept
};

// --- pure ---

// `[profile]` of a credentials file; what is missing there is empty.
Credentials ReadProfile(absl::string_view text, absl::string_view profile);
// The answer of a container's or machine's metadata service. UNAUTHENTICATED (STORE_CREDENTIALS) with its words, or
// because an end that it names cannot be read.
absl::StatusOr<Granted> ReadMetadata(absl::string_view json);
// The answer of STS to AssumeRoleWithWebIdentity. As ReadMetadata.
absl::StatusOr<Granted> ReadAssumed(absl::string_view xml);
// Where a container asks. Plain HTTP goes only to this machine and to the addresses that AWS gives such services:
// anywhere else the token would be told to whoever listens. UNAUTHENTICATED (STORE_CREDENTIALS).
absl::StatusOr<std::string> ContainerAddress(absl::string_view relative, absl::string_view full);

// --- the chain ---

struct HttpReply {
  long status = 0;  // 0: no answer, `body` says why
  std::string body;
};
// One call, which may take two seconds to connect and five in all.
using HttpFetch = std::function<HttpReply(const std::string& method, const std::string& url, const Pairs& headers,
                                          const std::string& body)>;
HttpReply FetchByCurl(const std::string& method, const std::string& url, const Pairs& headers, const std::string& body);

// Any thread; may block for some seconds, one caller for all.
class CredentialChain {
 public:
  struct Options {
    std::string region;                                // for STS
    std::function<std::string(const char*)> variable;  // empty: not set
    std::function<int64_t()> now;                      // microseconds UTC
    HttpFetch fetch = &FetchByCurl;
  };
  explicit CredentialChain(Options options) : options_(std::move(options)) {}

  // Those that were granted for a while are kept until five minutes before their end, and if they cannot be renewed
  // then, to their end. UNAUTHENTICATED (STORE_CREDENTIALS): where it looked, and what was said there.
  absl::StatusOr<Credentials> Get();

 private:
  absl::StatusOr<Granted> Ask(bool* fetched);
  absl::StatusOr<Granted> AssumeRole(const std::string& token_file);
  absl::StatusOr<Granted> AskContainer(const std::string& relative, const std::string& full);
  absl::StatusOr<Granted> AskMachine();

  const Options options_;
  Mutex mutex_;
  bool have_ ABSL_GUARDED_BY(mutex_) = false;
  Granted kept_ ABSL_GUARDED_BY(mutex_);
  int64_t next_try_ ABSL_GUARDED_BY(mutex_) = 0;  // after a failure
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::s3
