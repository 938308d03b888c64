// Signs a browser in: a one-time link, then a cookie. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace orch::rpc {

class SignIn {
 public:
  static constexpr int64_t kLinkMicros = int64_t{5} * 60 * 1'000'000;
  static constexpr int64_t kCookieMicros = int64_t{7} * 24 * 3600 * 1'000'000;

  // Cookies are signed with a key derived from `token`: they outlive a restart and end with the token.
  SignIn(absl::string_view token, absl::string_view instance);

  // What a code leads to: a path of our own pages (begins with `/`), and whom its cookie is for (SubjectOf).
  struct Link {
    std::string path;
    std::string subject;
  };
  // A code good for one use until `now_wall` + 5 minutes. RESOURCE_EXHAUSTED if a thousand are open.
  absl::StatusOr<std::string> MakeCode(std::string path, std::string subject, int64_t now_wall);
  // Nothing if the code is unknown, used, or over.
  std::optional<Link> UseCode(absl::string_view code, int64_t now_wall);

  // The cookie's name and value, and whom a value is for; nothing if it is not good.
  const std::string& cookie_name() const { return cookie_name_; }
  std::string MakeCookie(absl::string_view subject, int64_t now_wall) const;
  std::optional<std::string> CheckCookie(absl::string_view value, int64_t now_wall) const;

 private:
  struct Open {
    Link link;
    int64_t expires;
  };
  const std::string key_;
  const std::string cookie_name_;
  Mutex mutex_;
  std::map<std::string, Open> open_ ABSL_GUARDED_BY(mutex_);  // by the code's SHA-256
};

}  // namespace orch::rpc
