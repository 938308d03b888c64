#include "client/lib/discovery.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace orch::client {
namespace {

std::string Env(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

constexpr absl::string_view kTlsScheme = "https://";
constexpr size_t kMaxCaBytes = 4 << 20;  // a system's whole list is a quarter of a MiB

std::optional<std::string> ReadSmallFile(const std::string& path, size_t most = 64 * 1024) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

bool Loopback(absl::string_view host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || absl::StartsWith(host, "127.");
}

// The daemon may have died without removing server.json, and its pid may be another process by now: only a listener
// on the socket proves that it is there.
bool SocketAnswers(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  const int rc = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const bool answers = rc == 0 || errno == EAGAIN || errno == EINPROGRESS;
  close(fd);
  return answers;
}

absl::Status NotRunning(const std::string& dir, absl::string_view why) {
  return Error(absl::StatusCode::kUnavailable, "DAEMON_NOT_RUNNING",
               absl::StrCat("no daemon is running on ", dir, " (", why, "): start one with `orchd --data-dir ", dir,
                            "`, or name one with --server or ORCH_SERVER"));
}

// `localhost` of `localhost:80`, `https://localhost:80`.
absl::string_view HostOf(absl::string_view address) {
  (void)absl::ConsumePrefix(&address, kTlsScheme);
  return address.substr(0, address.rfind(':'));
}

absl::Status ReadToken(const std::string& file, Endpoint* endpoint) {
  const std::optional<std::string> text = ReadSmallFile(file);
  if (!text.has_value()) {
    return Error(absl::StatusCode::kInvalidArgument, "TOKEN_UNREADABLE",
                 absl::StrCat("cannot read the token file ", file, ": ", strerror(errno)));
  }
  endpoint->token = std::string(absl::StripAsciiWhitespace(*text));
  endpoint->token_origin = file;
  return absl::OkStatus();
}

absl::Status FindToken(const DiscoveryOptions& options, Endpoint* endpoint) {
  // The data directory's token opens the daemon on this machine: no other machine is to see it.
  const bool here = !UsesTls(endpoint->address) || Loopback(HostOf(endpoint->address));
  if (!options.token_file.empty()) {
    RETURN_IF_ERROR(ReadToken(options.token_file, endpoint));
  } else if (const std::string token = Env("ORCH_TOKEN"); !token.empty()) {
    endpoint->token = token;
    endpoint->token_origin = "ORCH_TOKEN";
  } else if (const std::string file = Env("ORCH_TOKEN_FILE"); !file.empty()) {
    RETURN_IF_ERROR(ReadToken(file, endpoint));
  } else if (!endpoint->data_dir.empty() && here) {
    const std::string path = absl::StrCat(endpoint->data_dir, "/token");
    if (const std::optional<std::string> text = ReadSmallFile(path); text.has_value()) {
      endpoint->token = std::string(absl::StripAsciiWhitespace(*text));
      endpoint->token_origin = path;
    }
  }
  // A header value with control characters would be refused far from here, in words nobody understands.
  for (const char c : endpoint->token) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return Error(absl::StatusCode::kInvalidArgument, "TOKEN_UNREADABLE",
                   absl::StrCat("the token from ", endpoint->token_origin, " is no token: it has spaces or control ",
                                "characters; copy the daemon's `token` file again"));
    }
  }
  return absl::OkStatus();
}

absl::Status FindCa(const DiscoveryOptions& options, Endpoint* endpoint) {
  if (!UsesTls(endpoint->address)) return absl::OkStatus();
  const std::string file = options.ca_file.empty() ? Env("ORCH_CA") : options.ca_file;
  if (file.empty()) return absl::OkStatus();
  const std::optional<std::string> text = ReadSmallFile(file, kMaxCaBytes);
  const bool pem = text.has_value() && absl::StrContains(*text, "-----BEGIN ");
  if (!pem || text->size() >= kMaxCaBytes) {
    return Error(absl::StatusCode::kInvalidArgument, "CA_UNREADABLE",
                 absl::StrCat("cannot use the CA file ", file, " (from ", options.ca_file.empty() ? "ORCH_CA" : "--ca",
                              "): ", text.has_value() ? "it holds no certificates in PEM form" : strerror(errno)));
  }
  endpoint->ca_pem = *text;
  endpoint->ca_origin = file;
  return absl::OkStatus();
}

absl::Status FindServer(const std::string& dir, Endpoint* endpoint) {
  const std::string path = absl::StrCat(dir, "/server.json");
  const std::optional<std::string> text = ReadSmallFile(path);
  if (!text.has_value()) {
    if (errno == EACCES) {
      return Error(absl::StatusCode::kPermissionDenied, "DATA_DIR_FORBIDDEN",
                   absl::StrCat("cannot read ", path,
                                ": the data directory belongs to another user; name your own "
                                "with --data-dir or ORCH_DATA_DIR"));
    }
    return NotRunning(dir, "it has no server.json");
  }
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return NotRunning(dir, "its server.json is no JSON object");
  const auto field = [&json](const char* name) {
    const auto it = json.find(name);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const auto pid = json.find("pid");
  endpoint->pid = pid != json.end() && pid->is_number_integer() ? pid->get<int64_t>() : 0;
  endpoint->http = field("http");
  endpoint->origin = path;
  if (endpoint->pid > 0 && kill(static_cast<pid_t>(endpoint->pid), 0) != 0 && errno == ESRCH) {
    return NotRunning(dir, absl::StrCat("process ", endpoint->pid, " of its server.json is gone"));
  }
  const std::string socket_path = field("grpc_unix");
  const std::string tcp = field("grpc");
  if (!socket_path.empty()) {
    if (SocketAnswers(socket_path)) {
      endpoint->address = absl::StrCat("unix:", socket_path);
      return absl::OkStatus();
    }
    if (access(socket_path.c_str(), F_OK) == 0) return NotRunning(dir, "nobody listens on its socket");
  }
  // No socket in sight: the directory may be shared with another machine or a container whose port is forwarded.
  if (tcp.empty() || !socket_path.empty()) return NotRunning(dir, "its socket is gone");
  const auto tls = json.find("tls");
  const bool uses_tls = tls != json.end() && tls->is_boolean() && tls->get<bool>();
  ASSIGN_OR_RETURN(endpoint->address, NormalAddress(uses_tls ? absl::StrCat(kTlsScheme, tcp) : tcp));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DataDir(const DiscoveryOptions& options) {
  if (!options.data_dir.empty()) return options.data_dir;
  if (std::string dir = Env("ORCH_DATA_DIR"); !dir.empty()) return dir;
  if (const std::string xdg = Env("XDG_DATA_HOME"); !xdg.empty()) return absl::StrCat(xdg, "/orchd");
  if (const std::string home = Env("HOME"); !home.empty()) return absl::StrCat(home, "/.local/share/orchd");
  return Error(absl::StatusCode::kFailedPrecondition, "DATA_DIR_UNKNOWN",
               "HOME is not set, so there is no default data directory: set ORCH_DATA_DIR or ORCH_SERVER");
}

bool ServerGiven(const DiscoveryOptions& options) { return !options.server.empty() || !Env("ORCH_SERVER").empty(); }

absl::StatusOr<std::string> NormalAddress(absl::string_view address) {
  const auto invalid = [address](absl::string_view why) {
    return Error(absl::StatusCode::kInvalidArgument, "SERVER_ADDRESS_INVALID",
                 absl::StrCat("the server address `", address, "` ", why,
                              ": give https://HOST:PORT, 127.0.0.1:PORT or unix:PATH"));
  };
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix:") || absl::StartsWith(rest, "/")) {
    // gRPC would take what follows `unix://` as it is, up to two slashes of it for an authority.
    while (absl::StartsWith(rest, "//")) rest.remove_prefix(1);
    if (rest.empty()) return invalid("has no path");
    if (rest.size() >= sizeof(sockaddr_un::sun_path)) return invalid("is longer than the 107 bytes a socket may have");
    return absl::StrCat("unix:", rest);
  }
  if (absl::StartsWith(address, "http://")) return invalid("is a web address without TLS, not the gRPC one");
  const bool tls = absl::ConsumePrefix(&rest, kTlsScheme);
  if (tls) (void)absl::ConsumeSuffix(&rest, "/");
  if (absl::StrContains(rest, '/')) return invalid("has a path");
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos) return invalid("has no port");
  const absl::string_view host = rest.substr(0, colon);
  int port = 0;
  if (!absl::SimpleAtoi(rest.substr(colon + 1), &port) || port < 1 || port > 65535) return invalid("has a bad port");
  if (host.empty() || !std::all_of(host.begin(), host.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-._[]:%", c);
      })) {
    return invalid("has no host");
  }
  if (!tls && !Loopback(host)) return invalid("is not on this machine, which needs TLS");
  return absl::StrCat(tls ? kTlsScheme : "", rest);
}

bool UsesTls(absl::string_view address) { return absl::StartsWith(address, kTlsScheme); }

absl::StatusOr<Endpoint> Discover(const DiscoveryOptions& options) {
  Endpoint endpoint;
  absl::StatusOr<std::string> dir = DataDir(options);
  const std::string env_server = Env("ORCH_SERVER");
  const std::string& given = options.server.empty() ? env_server : options.server;
  if (dir.ok()) endpoint.data_dir = *dir;
  if (!given.empty()) {
    ASSIGN_OR_RETURN(endpoint.address, NormalAddress(given));
    endpoint.origin = options.server.empty() ? "ORCH_SERVER" : "--server";
  } else {
    RETURN_IF_ERROR(dir.status());
    RETURN_IF_ERROR(FindServer(*dir, &endpoint));
  }
  RETURN_IF_ERROR(FindToken(options, &endpoint));
  RETURN_IF_ERROR(FindCa(options, &endpoint));
  return endpoint;
}

}  // namespace orch::client
