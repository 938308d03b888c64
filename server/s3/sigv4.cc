#include "server/s3/sigv4.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "server/base/digest.h"

namespace orch::s3 {
namespace {

constexpr char kAlgorithm[] = "AWS4-HMAC-SHA256";

// Without blanks at its ends, and with one for several in a row.
std::string Trimmed(absl::string_view value) {
  std::string out;
  for (const char c : absl::StripAsciiWhitespace(value)) {
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (blank && !out.empty() && out.back() == ' ') continue;
    out += blank ? ' ' : c;
  }
  return out;
}

// By name in lower case; values of one name joined, in their order.
std::map<std::string, std::string> CanonicalHeaders(const Pairs& headers) {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : headers) {
    const auto [it, fresh] = out.try_emplace(absl::AsciiStrToLower(name), Trimmed(value));
    if (!fresh) absl::StrAppend(&it->second, ",", Trimmed(value));
  }
  return out;
}

std::string SignedNames(const std::map<std::string, std::string>& headers) {
  return absl::StrJoin(headers, ";", [](std::string* out, const auto& header) { out->append(header.first); });
}

std::string ScopeText(const SigningScope& scope, absl::string_view amz_date) {
  return absl::StrCat(amz_date.substr(0, 8), "/", scope.region, "/", scope.service, "/aws4_request");
}

std::string Signature(const SignedRequest& request, const Credentials& credentials, const SigningScope& scope,
                      absl::string_view amz_date) {
  const std::string text = absl::StrCat(kAlgorithm, "\n", amz_date, "\n", ScopeText(scope, amz_date), "\n",
                                        Hex(Sha256Of(CanonicalRequest(request))));
  std::string key = HmacSha256(absl::StrCat("AWS4", credentials.secret_key), amz_date.substr(0, 8));
  for (const absl::string_view part :
       {absl::string_view(scope.region), absl::string_view(scope.service), absl::string_view("aws4_request")}) {
    key = HmacSha256(key, part);
  }
  return Hex(HmacSha256(key, text));
}

}  // namespace

std::string AmzDate(int64_t wall_micros) {
  return absl::FormatTime("%Y%m%dT%H%M%SZ", absl::FromUnixMicros(wall_micros), absl::UTCTimeZone());
}

std::string Escape(absl::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/')) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string CanonicalQuery(const Pairs& query) {
  Pairs escaped;
  for (const auto& [name, value] : query) escaped.emplace_back(Escape(name, false), Escape(value, false));
  std::sort(escaped.begin(), escaped.end());
  return absl::StrJoin(escaped, "&",
                       [](std::string* out, const auto& pair) { absl::StrAppend(out, pair.first, "=", pair.second); });
}

std::string CanonicalRequest(const SignedRequest& request) {
  const std::map<std::string, std::string> headers = CanonicalHeaders(request.headers);
  std::string out = absl::StrCat(request.method, "\n", Escape(request.path, /*keep_slash=*/true), "\n",
                                 CanonicalQuery(request.query), "\n");
  for (const auto& [name, value] : headers) absl::StrAppend(&out, name, ":", value, "\n");
  absl::StrAppend(&out, "\n", SignedNames(headers), "\n", request.payload_hash);
  return out;
}

std::string Authorization(const SignedRequest& request, const Credentials& credentials, const SigningScope& scope,
                          absl::string_view amz_date) {
  return absl::StrCat(kAlgorithm, " Credential=", credentials.access_key, "/", ScopeText(scope, amz_date),
                      ", SignedHeaders=", SignedNames(CanonicalHeaders(request.headers)),
                      ", Signature=", Signature(request, credentials, scope, amz_date));
}

std::string PresignedQuery(SignedRequest request, const Credentials& credentials, const SigningScope& scope,
                           absl::string_view amz_date, int64_t seconds) {
  request.query.emplace_back("X-Amz-Algorithm", kAlgorithm);
  request.query.emplace_back("X-Amz-Credential", absl::StrCat(credentials.access_key, "/", ScopeText(scope, amz_date)));
  request.query.emplace_back("X-Amz-Date", std::string(amz_date));
  request.query.emplace_back("X-Amz-Expires", absl::StrCat(seconds));
  request.query.emplace_back("X-Amz-SignedHeaders", SignedNames(CanonicalHeaders(request.headers)));
  if (!credentials.session_token.empty()) {
    request.query.emplace_back("X-Amz-Security-Token", credentials.session_token);
  }
  return absl::StrCat(CanonicalQuery(request.query),
                      "&X-Amz-Signature=", Signature(request, credentials, scope, amz_date));
}

}  // namespace orch::s3
