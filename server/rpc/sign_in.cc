#include "server/rpc/sign_in.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/digest.h"
#include "server/base/status.h"

namespace orch::rpc {
namespace {
constexpr size_t kMaxOpen = 1000;
constexpr size_t kMaxCookie = 1000;  // a token's name of 200 bytes in hex, and what is around it
}  // namespace

SignIn::SignIn(absl::string_view token, absl::string_view instance)
    : key_(HmacSha256(token, "orchd cookie v1")),
      cookie_name_(absl::StrCat("orchd_", Hex(Sha256Of(instance).substr(0, 4)))) {}

absl::StatusOr<std::string> SignIn::MakeCode(std::string path, std::string subject, int64_t now_wall) {
  const std::string code = absl::WebSafeBase64Escape(RandomBytes(24));
  MutexLock lock(&mutex_);
  for (auto it = open_.begin(); it != open_.end();) it = it->second.expires <= now_wall ? open_.erase(it) : ++it;
  if (open_.size() >= kMaxOpen) {
    return Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_LINKS",
                 "too many sign-in links are open; wait five minutes");
  }
  open_[Sha256Of(code)] = {{std::move(path), std::move(subject)}, now_wall + kLinkMicros};
  return code;
}

std::optional<SignIn::Link> SignIn::UseCode(absl::string_view code, int64_t now_wall) {
  MutexLock lock(&mutex_);
  const auto found = open_.find(Sha256Of(code));
  if (found == open_.end()) return std::nullopt;
  Open used = std::move(found->second);
  open_.erase(found);
  if (used.expires <= now_wall) return std::nullopt;
  return std::move(used.link);
}

std::string SignIn::MakeCookie(absl::string_view subject, int64_t now_wall) const {
  const std::string text = absl::StrCat("2.", now_wall + kCookieMicros, ".", Hex(RandomBytes(8)), ".", Hex(subject));
  return absl::StrCat(text, ".", Hex(HmacSha256(key_, text)));
}

std::optional<std::string> SignIn::CheckCookie(absl::string_view value, int64_t now_wall) const {
  if (value.size() > kMaxCookie) return std::nullopt;
  const size_t dot = value.rfind('.');
  if (dot == absl::string_view::npos) return std::nullopt;
  const absl::string_view text = value.substr(0, dot);
  if (!ConstantTimeEquals(Hex(HmacSha256(key_, text)), value.substr(dot + 1))) return std::nullopt;
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  int64_t expires = 0;
  if (parts.size() != 4 || parts[0] != "2" || !absl::SimpleAtoi(parts[1], &expires) || now_wall >= expires) {
    return std::nullopt;
  }
  return absl::HexStringToBytes(parts[3]);
}

}  // namespace orch::rpc
