#include "client/launch/http.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace orch::launch {
namespace {

HttpAnswer Broken(const char* what) {
  HttpAnswer answer;
  answer.error = std::string(what) + ": " + strerror(errno);
  return answer;
}

}  // namespace

HttpAnswer PostJson(const std::string& socket_path, const std::string& path, const std::string& token,
                    const std::string& json, int timeout_ms) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  HttpAnswer answer;
  if (socket_path.size() >= sizeof(address.sun_path)) {
    answer.error = "the socket's path is too long";
    return answer;
  }
  memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Broken("cannot make a socket");
  const timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    answer = Broken("cannot connect");
    close(fd);
    return answer;
  }
  const std::string request = "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" +
                              "Content-Type: application/json\r\nAuthorization: Bearer " + token +
                              "\r\nContent-Length: " + std::to_string(json.size()) + "\r\n\r\n" + json;
  for (size_t at = 0; at < request.size();) {
    const ssize_t n = send(fd, request.data() + at, request.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      answer = Broken("cannot send");
      close(fd);
      return answer;
    }
    at += static_cast<size_t>(n);
  }
  AnswerReader reader;
  char buffer[16384];
  while (!reader.complete()) {
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      answer = Broken("no answer");
      close(fd);
      return answer;
    }
    if (n == 0) break;
    reader.Append(std::string_view(buffer, static_cast<size_t>(n)));
  }
  close(fd);
  return reader.Finish();
}

}  // namespace orch::launch
