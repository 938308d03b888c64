#include "server/config/data_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/json.h"
#include "server/base/small_file.h"
#include "server/base/status.h"

namespace orch::config {
namespace {

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return Error(absl::StatusCode::kFailedPrecondition, "DATA_DIR",
               absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno)));
}

// Own, a folder, 0700; never follows a link.
absl::Status MakePrivate(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat info {};
  if (fd < 0) return SystemError("use", dir);
  const auto close_fd = absl::MakeCleanup([fd] { ::close(fd); });
  if (::fstat(fd, &info) != 0) return SystemError("use", dir);
  if (info.st_uid != ::geteuid()) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "DATA_DIR_FOREIGN",
        absl::StrCat(dir, " belongs to another user (uid ", info.st_uid, "); choose an own one with --data-dir"));
  }
  if ((info.st_mode & 07777) != 0700 && ::fchmod(fd, 0700) != 0) return SystemError("make 0700", dir);
  return absl::OkStatus();
}

absl::Status WriteWhole(int fd, absl::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("write", path);
    text.remove_prefix(static_cast<size_t>(n));
  }
  return ::fsync(fd) == 0 ? absl::OkStatus() : SystemError("sync", path);
}

// Through a file beside it, so that readers see the old or the new one.
absl::Status Replace(const std::string& path, absl::string_view text) {
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return SystemError("make", temporary);
  const absl::Status written = WriteWhole(fd, text, temporary);
  ::close(fd);
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status failed = written.ok() ? SystemError("rename", temporary) : written;
  ::unlink(temporary.c_str());
  return failed;
}

}  // namespace

absl::Status PrepareDataDir(const std::string& dir) {
  std::error_code error;
  const std::string parent = std::filesystem::path(dir).parent_path().string();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);  // what fails shows below
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return SystemError("make", dir);
  // The data directory itself may be reached through a link: people put it on another disk that way.
  const std::string real = std::filesystem::canonical(dir, error).string();
  return MakePrivate(error ? dir : real);
}

absl::StatusOr<std::string> ReadOrMakeToken(const std::string& dir) {
  const std::string path = dir + "/token";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno != ENOENT) return SystemError("read", path);
  if (fd >= 0) {
    const auto close_fd = absl::MakeCleanup([fd] { ::close(fd); });
    struct stat info {};
    char text[512];
    const ssize_t n = ::read(fd, text, sizeof(text));
    if (n < 0 || ::fstat(fd, &info) != 0) return SystemError("read", path);
    if (info.st_uid != ::geteuid()) {
      return Error(absl::StatusCode::kFailedPrecondition, "DATA_DIR_FOREIGN", path + " belongs to another user");
    }
    if ((info.st_mode & 0777) != 0600 && ::fchmod(fd, 0600) != 0) return SystemError("make 0600", path);
    const std::string token(absl::StripAsciiWhitespace(absl::string_view(text, static_cast<size_t>(n))));
    if (token.size() >= 32) return token;
    if (!token.empty()) {
      return Error(absl::StatusCode::kFailedPrecondition, "TOKEN_WEAK",
                   path + " has less than 32 letters; remove it, a new one is made");
    }
  }
  const std::string token = absl::WebSafeBase64Escape(RandomBytes(32));
  RETURN_IF_ERROR(Replace(path, token + "\n"));
  return token;
}

absl::StatusOr<std::string> ReadGivenToken(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string text, ReadSecretFile(file, 1 << 10));
  const std::string token(absl::StripAsciiWhitespace(text));
  if (token.size() < 32) {
    return Error(absl::StatusCode::kInvalidArgument, "TOKEN_WEAK",
                 absl::StrCat(file, " holds less than 32 letters; `openssl rand -hex 32` makes a token"));
  }
  const bool fits = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (!fits || token.size() > 500) {
    return Error(absl::StatusCode::kInvalidArgument, "TOKEN_INVALID",
                 absl::StrCat(file, " holds no token: one line of ASCII, without blanks, of at most 500 letters"));
  }
  return token;
}

absl::Status KeepToken(const std::string& dir, const std::string& token) {
  return Replace(dir + "/token", token + "\n");
}

absl::StatusOr<SocketPaths> PrepareSockets(const std::string& dir) {
  std::string folder = dir;
  if (dir.size() + sizeof("/steps/http.sock") > sizeof(sockaddr_un::sun_path)) {
    folder = absl::StrCat("/tmp/orchd-", ::geteuid(), "-", Hex(Sha256Of(dir).substr(0, 8)));
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return SystemError("make", folder);
    RETURN_IF_ERROR(MakePrivate(folder));
  }
  const std::string steps = folder + "/steps";
  if (::mkdir(steps.c_str(), 0755) != 0 && errno != EEXIST) return SystemError("make", steps);
  return SocketPaths{folder + "/grpc.sock", folder + "/http.sock", steps};
}

absl::Status WriteServerFile(const std::string& dir, const ServerFile& file) {
  return Replace(dir + "/server.json",
                 absl::StrCat("{\"grpc\": ", JsonQuote(file.grpc), ", \"http\": ", JsonQuote(file.http),
                              ", \"grpc_unix\": ", JsonQuote(file.grpc_unix), ", \"http_unix\": ",
                              JsonQuote(file.http_unix), ", \"tls\": ", file.tls ? "true" : "false",
                              ", \"pid\": ", file.pid, ", \"version\": ", JsonQuote(file.version), "}\n"));
}

void RemoveServerFile(const std::string& dir) { ::unlink((dir + "/server.json").c_str()); }

}  // namespace orch::config
