// AWS Signature Version 4: for a request's headers, and for addresses that are good for a while. Pure: no clock, no
// environment, no transport. Our own, because the signing of the libcurl that Debian has is wrong for `?uploads` and
// for queries that are not sorted; held to the examples that AWS publishes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch::s3 {

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  // empty: none
};

struct SigningScope {
  std::string region;
  std::string service = "s3";
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

// A request in its plain form: nothing is escaped.
struct SignedRequest {
  std::string method = "GET";
  std::string path = "/";    // `/bucket/a key`
  Pairs query;               // in any order; a value may be empty
  Pairs headers;             // those that are signed, `host` among them; names in any case
  std::string payload_hash;  // hex SHA-256 of the body, or kUnsigned
};

inline constexpr char kUnsigned[] = "UNSIGNED-PAYLOAD";
// hex SHA-256 of nothing.
inline constexpr char kEmptyHash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

// `20130524T000000Z`.
std::string AmzDate(int64_t wall_micros);

// As SigV4 escapes: letters, digits and `-._~` stay, and `/` if `keep_slash`.
std::string Escape(absl::string_view text, bool keep_slash);
// The query as it is signed and as it has to be sent: escaped and sorted, without `?`.
std::string CanonicalQuery(const Pairs& query);
// What is hashed and signed; for tests and for people who look for a mistake.
std::string CanonicalRequest(const SignedRequest& request);

// The value of `Authorization`. The request has `x-amz-date` among its headers (and `x-amz-security-token`, if there is
// a session token), with the same date.
std::string Authorization(const SignedRequest& request, const Credentials& credentials, const SigningScope& scope,
                          absl::string_view amz_date);

// The query of an address that is good for `seconds` from `amz_date`: the request's own and the signature. Who uses it
// sends the request's headers with these values.
std::string PresignedQuery(SignedRequest request, const Credentials& credentials, const SigningScope& scope,
                           absl::string_view amz_date, int64_t seconds);

}  // namespace orch::s3
