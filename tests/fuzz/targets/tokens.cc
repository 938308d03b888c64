// What clients hand back: page tokens, resume tokens, cookies, authorization. Ours are read as they were made and only
// for what they were made for; whatever else is refused.
#include "server/rpc/tokens.h"

#include "server/base/status.h"
#include "server/rpc/sign_in.h"
#include "tests/fuzz/fuzz.h"

namespace orch::rpc {
namespace {

constexpr char kInstance[] = "0190163d-8694-739b-aea5-966c26f8ad91";

void Check(const std::string& token, const std::string& filter) {
  // As a token from outside.
  if (const auto position = ReadPageToken(token, filter); position.ok()) {
    if (!token.empty()) REQUIRE(ReadPageToken(MakePageToken(*position, filter), filter).value() == *position);
  } else {
    REQUIRE(ReasonOf(position.status()) == "PAGE_TOKEN_INVALID");
  }
  if (const auto number = ReadPageNumber(token, filter); number.ok()) REQUIRE(*number >= 0);
  if (const auto sequence = ReadResumeToken(token, kInstance, filter); sequence.ok()) {
    REQUIRE(*sequence >= 0);
    REQUIRE(ReadResumeToken(MakeResumeToken(kInstance, *sequence, filter), kInstance, filter).value() == *sequence);
  }

  // As what is sealed in one.
  if (!token.empty() && token.size() < 600) {
    const std::string made = MakePageToken(token, filter);
    REQUIRE(ReadPageToken(made, filter).value() == token);
    REQUIRE(!ReadPageToken(made, filter + "x").ok());
    REQUIRE(!ReadResumeToken(made, kInstance, filter).ok());
  }
  const auto number = static_cast<int64_t>(std::hash<std::string>()(token) >> 1);
  const std::string made = MakeResumeToken(kInstance, number, filter);
  REQUIRE(ReadResumeToken(made, kInstance, filter).value() == number);
  REQUIRE(!ReadResumeToken(made, kInstance, filter + "x").ok());
  REQUIRE(!ReadResumeToken(made, "other", filter).ok());
  REQUIRE(!ReadPageToken(made, filter).ok());

  static SignIn* const kSignIn = new SignIn("token", kInstance);
  static const std::string* const kCookie = new std::string(kSignIn->MakeCookie("", 1));
  REQUIRE(kSignIn->CheckCookie(*kCookie, 2) == "");
  if (token != *kCookie) REQUIRE(!kSignIn->CheckCookie(token, 2).has_value());
  REQUIRE(!kSignIn->UseCode(token, 1).has_value());
}

}  // namespace
}  // namespace orch::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::string> parts = orch::fuzz::Parts(orch::fuzz::View(data, size), 2);
  orch::rpc::Check(parts[0], parts[1]);
  return 0;
}
