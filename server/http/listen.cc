#include "server/http/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace orch::http {
namespace {
constexpr int kBacklog = 1024;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

bool Fill(const HostPort& from, Address* to) {
  const std::string host = from.host == "localhost" ? "127.0.0.1" : from.host;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&to->storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&to->storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(from.port);
    to->length = sizeof(sockaddr_in);
    return true;
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(from.port);
    to->length = sizeof(sockaddr_in6);
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<HostPort> ParseAddress(absl::string_view text) {
  const auto invalid = [&] {
    return Error(absl::StatusCode::kInvalidArgument, "ADDRESS_INVALID",
                 absl::StrCat("`", text, "` is no address; write it as 127.0.0.1:7433 (port 0: any free one)"));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return invalid();
  HostPort out;
  absl::string_view host = text.substr(0, colon);
  int port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 0 || port > 65535) return invalid();
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) return invalid();
  out.host = std::string(host);
  out.port = static_cast<uint16_t>(port);
  Address address;
  if (!Fill(out, &address)) return invalid();
  return out;
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr v4{};
  return ::inet_pton(AF_INET, std::string(host).c_str(), &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

absl::StatusOr<std::pair<int, std::string>> ListenTcp(const HostPort& wanted) {
  Address address;
  if (!Fill(wanted, &address)) {
    return Error(absl::StatusCode::kInvalidArgument, "ADDRESS_INVALID", absl::StrCat(wanted.host, " is no address"));
  }
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::InternalError(absl::StrCat("socket: ", std::strerror(errno)));
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address.storage), address.length) != 0 || ::listen(fd, kBacklog) != 0) {
    const int error = errno;
    ::close(fd);
    return Error(absl::StatusCode::kUnavailable, "ADDRESS_IN_USE",
                 absl::StrCat("cannot listen for HTTP on ", wanted.host, ":", wanted.port, ": ", std::strerror(error),
                              "; choose another with --http-listen, for example --http-listen 127.0.0.1:0"));
  }
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length);
  const bool v6 = bound.ss_family == AF_INET6;
  const int port =
      ntohs(v6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return std::make_pair(fd, absl::StrCat(v6 ? "[" : "", wanted.host, v6 ? "]" : "", ":", port));
}

absl::StatusOr<int> ListenUnix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(absl::StatusCode::kInvalidArgument, "ADDRESS_INVALID",
                 absl::StrCat(path, " is too long for a socket"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::InternalError(absl::StrCat("socket: ", std::strerror(errno)));
  // 0600 before anybody can connect: nothing is accepted until listen.
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(fd, kBacklog) != 0) {
    const int error = errno;
    ::close(fd);
    return Error(absl::StatusCode::kUnavailable, "ADDRESS_IN_USE",
                 absl::StrCat("cannot listen on ", path, ": ", std::strerror(error)));
  }
  return fd;
}

}  // namespace orch::http
