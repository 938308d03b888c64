#include "server/s3/credentials.h"

#include <curl/curl.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/s3/client.h"

namespace orch::s3 {
namespace {

using nlohmann::json;

constexpr int64_t kRenewBefore = int64_t{300} * 1'000'000;
constexpr int64_t kAfterFailure = int64_t{5} * 1'000'000;
constexpr size_t kMaxAnswer = 64 << 10;
constexpr char kContainerHost[] = "http://169.254.170.2";
constexpr char kMachineHost[] = "http://169.254.169.254";
constexpr char kSessionSeconds[] = "21600";

absl::Status None(absl::string_view why) { return Error(absl::StatusCode::kUnauthenticated, "STORE_CREDENTIALS", why); }

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// What somebody else's service said, for a message.
std::string Words(const HttpReply& reply) {
  if (reply.status == 0) return reply.body;
  const std::string text = std::string(absl::StripAsciiWhitespace(reply.body)).substr(0, 200);
  return absl::StrCat("HTTP status ", reply.status, text.empty() ? "" : ": ", text);
}

absl::StatusOr<Granted> Checked(Credentials credentials, const std::string& until, absl::string_view where) {
  if (credentials.access_key.empty() || credentials.secret_key.empty()) {
    return None(absl::StrCat(where, " answered without a key"));
  }
  Granted granted;
  granted.credentials = std::move(credentials);
  if (until.empty()) return granted;
  absl::Time time;
  if (!absl::ParseTime(absl::RFC3339_full, until, &time, nullptr)) {
    return None(absl::StrCat(where, " says of its key that it ends at `", until.substr(0, 100), "`, which is no time"));
  }
  granted.expires = absl::ToUnixMicros(time);
  return granted;
}

size_t Append(char* data, size_t size, size_t count, void* out) {
  auto* text = static_cast<std::string*>(out);
  if (text->size() + size * count > kMaxAnswer) return 0;
  text->append(data, size * count);
  return size * count;
}

}  // namespace

Credentials ReadProfile(absl::string_view text, absl::string_view profile) {
  Credentials out;
  bool here = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const absl::string_view line = absl::StripAsciiWhitespace(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      const size_t close = line.find(']');
      here = close != absl::string_view::npos && absl::StripAsciiWhitespace(line.substr(1, close - 1)) == profile;
      continue;
    }
    const size_t equals = line.find('=');
    if (!here || equals == absl::string_view::npos) continue;
    const absl::string_view name = absl::StripAsciiWhitespace(line.substr(0, equals));
    const std::string value(absl::StripAsciiWhitespace(line.substr(equals + 1)));
    if (name == "aws_access_key_id") out.access_key = value;
    if (name == "aws_secret_access_key") out.secret_key = value;
    if (name == "aws_session_token") out.session_token = value;
  }
  return out;
}

absl::StatusOr<Granted> ReadMetadata(absl::string_view text) {
  const json answer = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  const auto field = [&](const char* name) -> std::string {
    const auto found = answer.is_object() ? answer.find(name) : answer.end();
    return answer.is_object() && found != answer.end() && found->is_string() ? found->get<std::string>() : "";
  };
  if (!answer.is_object()) return None("the metadata service answered with what is no JSON object");
  const std::string code = field("Code");
  if (!code.empty() && code != "Success") {
    return None(absl::StrCat("the metadata service: ", code, ": ", field("Message")));
  }
  const auto end = answer.find("Expiration");
  const bool other = end != answer.end() && !end->is_string() && !end->is_null();
  return Checked({field("AccessKeyId"), field("SecretAccessKey"), field("Token")},
                 other ? end->dump() : field("Expiration"), "the metadata service");
}

absl::StatusOr<Granted> ReadAssumed(absl::string_view xml) {
  return Checked({XmlText(xml, "AccessKeyId"), XmlText(xml, "SecretAccessKey"), XmlText(xml, "SessionToken")},
                 XmlText(xml, "Expiration"), "STS");
}

absl::StatusOr<std::string> ContainerAddress(absl::string_view relative, absl::string_view full) {
  if (!relative.empty()) {
    if (relative[0] != '/') return None("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with `/`");
    return absl::StrCat(kContainerHost, relative);
  }
  if (absl::StartsWith(full, "https://")) return std::string(full);
  absl::string_view rest = full;
  if (absl::ConsumePrefix(&rest, "http://")) {
    const absl::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
    for (const absl::string_view host :
         {"localhost", "127.0.0.1", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"}) {
      absl::string_view port = authority;
      if (!absl::ConsumePrefix(&port, host)) continue;
      const auto digit = [](char c) { return c >= '0' && c <= '9'; };
      const bool numbered =
          absl::ConsumePrefix(&port, ":") && !port.empty() && std::all_of(port.begin(), port.end(), digit);
      if (port.empty() || numbered) return std::string(full);
    }
  }
  return None(
      "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https://, or http:// to this machine or to 169.254.170.2, .23 or "
      "[fd00:ec2::23]");
}

HttpReply FetchByCurl(const std::string& method, const std::string& url, const Pairs& headers,
                      const std::string& body) {
  static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)kReady;
  HttpReply reply;
  CURL* handle = curl_easy_init();
  if (handle == nullptr) {
    reply.body = "no memory";
    return reply;
  }
  const auto clean = absl::MakeCleanup([&] { curl_easy_cleanup(handle); });
  curl_slist* list = curl_slist_append(nullptr, "Expect:");
  const auto free_list = absl::MakeCleanup([&] { curl_slist_free_all(list); });
  for (const auto& [name, value] : headers) list = curl_slist_append(list, absl::StrCat(name, ": ", value).c_str());
  char error[CURL_ERROR_SIZE] = {};
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");  // these services are on the machine, or name their own address
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, 2000L);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, 5000L);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Append);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &reply.body);
  if (method == "POST" || method == "PUT") {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  }
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, method.c_str());
  if (curl_easy_perform(handle) != CURLE_OK) {
    reply.body = error[0] != '\0' ? error : "no answer";
  } else {
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &reply.status);
  }
  return reply;
}

absl::StatusOr<Credentials> CredentialChain::Get() {
  MutexLock lock(&mutex_);
  const int64_t now = options_.now();
  if (have_ && now < kept_.expires - kRenewBefore) return kept_.credentials;
  if (now < next_try_) {
    if (have_ && now < kept_.expires) return kept_.credentials;
    return failure_;
  }
  bool fetched = false;
  absl::StatusOr<Granted> granted = Ask(&fetched);
  if (granted.ok()) {
    next_try_ = 0;
    if (!fetched) return granted->credentials;  // looked at anew each time
    have_ = granted->expires != 0;
    if (!have_) return granted->credentials;
    kept_ = *std::move(granted);
    return kept_.credentials;
  }
  if (fetched) {  // not each of many calls waits for a service that does not answer
    next_try_ = now + kAfterFailure;
    failure_ = granted.status();
  }
  if (fetched && have_ && now < kept_.expires) return kept_.credentials;
  return granted.status();
}

absl::StatusOr<Granted> CredentialChain::Ask(bool* fetched) {
  const auto variable = [&](const char* name) { return options_.variable(name); };
  Granted out;
  out.credentials = {variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN")};
  if (!out.credentials.access_key.empty() && !out.credentials.secret_key.empty()) return out;
  if (const std::string file = variable("AWS_WEB_IDENTITY_TOKEN_FILE"); !file.empty()) {
    *fetched = true;
    return AssumeRole(file);
  }
  std::string file = variable("AWS_SHARED_CREDENTIALS_FILE");
  if (file.empty()) file = variable("HOME") + "/.aws/credentials";
  std::string profile = variable("AWS_PROFILE");
  const bool named = !profile.empty();
  if (!named) profile = "default";
  if (const auto text = ReadFile(file)) {
    out.credentials = ReadProfile(*text, profile);
    if (!out.credentials.access_key.empty() && !out.credentials.secret_key.empty()) return out;
  }
  if (named) {  // somebody meant it
    return None(absl::StrCat("there are no credentials for the store: profile `", profile, "` has none in ", file));
  }
  const std::string relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string full = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  *fetched = true;
  if (!relative.empty() || !full.empty()) return AskContainer(relative, full);
  std::string machine = "AWS_EC2_METADATA_DISABLED is true";
  if (!absl::EqualsIgnoreCase(variable("AWS_EC2_METADATA_DISABLED"), "true")) {
    absl::StatusOr<Granted> granted = AskMachine();
    if (granted.ok()) return granted;
    machine = std::string(granted.status().message());
  }
  return None(absl::StrCat(
      "there are no credentials for the store: name secrets with access_key_secret and secret_key_secret, or give the "
      "daemon AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile `",
      profile, "` in ", file, ", or run it where the platform gives it a role (its machine: ", machine, ")"));
}

absl::StatusOr<Granted> CredentialChain::AssumeRole(const std::string& token_file) {
  const std::string role = options_.variable("AWS_ROLE_ARN");
  if (role.empty()) return None("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
  const auto token = ReadFile(token_file);  // it is renewed there
  if (!token) return None(absl::StrCat("the web identity token in ", token_file, " cannot be read"));
  std::string session = options_.variable("AWS_ROLE_SESSION_NAME");
  if (session.empty()) session = "orchd";
  std::string address = options_.variable("AWS_ENDPOINT_URL_STS");
  if (address.empty()) address = absl::StrCat("https://sts.", options_.region, ".amazonaws.com");
  // In the body: addresses are written to logs.
  const std::string body = CanonicalQuery({{"Action", "AssumeRoleWithWebIdentity"},
                                           {"Version", "2011-06-15"},
                                           {"RoleArn", role},
                                           {"RoleSessionName", session},
                                           {"WebIdentityToken", std::string(absl::StripAsciiWhitespace(*token))}});
  const HttpReply reply = options_.fetch("POST", absl::StrCat(absl::StripSuffix(address, "/"), "/"),
                                         {{"Content-Type", "application/x-www-form-urlencoded"}}, body);
  if (reply.status == 200) return ReadAssumed(reply.body);
  const std::string code = XmlText(reply.body, "Code");
  return None(absl::StrCat("STS does not give the role ", role, ": ",
                           code.empty() ? Words(reply) : absl::StrCat(code, ": ", XmlText(reply.body, "Message"))));
}

absl::StatusOr<Granted> CredentialChain::AskContainer(const std::string& relative, const std::string& full) {
  ASSIGN_OR_RETURN(const std::string address, ContainerAddress(relative, full));
  std::string token = options_.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (const std::string file = options_.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !file.empty()) {
    const auto text = ReadFile(file);
    if (!text) return None(absl::StrCat("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: ", file, " cannot be read"));
    token = std::string(absl::StripAsciiWhitespace(*text));
  }
  if (token.find_first_of("\r\n") != std::string::npos) {
    return None("the token for the container's credentials has a line break");
  }
  Pairs headers;
  if (!token.empty()) headers.emplace_back("Authorization", token);
  const HttpReply reply = options_.fetch("GET", address, headers, "");
  if (reply.status == 200) return ReadMetadata(reply.body);
  return None(absl::StrCat("the container's credentials are not given at ", address, ": ", Words(reply)));
}

absl::StatusOr<Granted> CredentialChain::AskMachine() {
  std::string host = options_.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (host.empty()) host = kMachineHost;
  host = std::string(absl::StripSuffix(host, "/"));
  const auto failed = [&](const HttpReply& reply) {
    return None(absl::StrCat("no metadata service at ", host, ": ", Words(reply)));
  };
  const HttpReply session = options_.fetch("PUT", host + "/latest/api/token",
                                           {{"X-aws-ec2-metadata-token-ttl-seconds", kSessionSeconds}}, "");
  if (session.status != 200 || session.body.find_first_of("\r\n") != std::string::npos) return failed(session);
  const Pairs headers = {{"X-aws-ec2-metadata-token", session.body}};
  const std::string roles = host + "/latest/meta-data/iam/security-credentials/";
  const HttpReply listed = options_.fetch("GET", roles, headers, "");
  if (listed.status == 404) return None(absl::StrCat("the machine at ", host, " has no role"));
  if (listed.status != 200) return failed(listed);
  const absl::string_view role = absl::StripAsciiWhitespace(
      absl::string_view(listed.body).substr(0, std::min(listed.body.find('\n'), listed.body.size())));
  if (role.empty()) return None(absl::StrCat("the machine at ", host, " has no role"));
  const HttpReply reply = options_.fetch("GET", absl::StrCat(roles, Escape(role, /*keep_slash=*/false)), headers, "");
  if (reply.status != 200) return failed(reply);
  return ReadMetadata(reply.body);
}

}  // namespace orch::s3
