#include "client/launch/http.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace orch::launch {
namespace {

constexpr size_t kMaxAnswer = 16u << 20;

// The value of a header, or empty; names in any case.
std::string HeaderOf(const std::string& head, const char* name) {
  const size_t length = strlen(name);
  for (size_t at = head.find("\r\n"); at != std::string::npos; at = head.find("\r\n", at + 2)) {
    const char* line = head.c_str() + at + 2;
    if (strncasecmp(line, name, length) != 0 || line[length] != ':') continue;
    const char* value = line + length + 1;
    while (*value == ' ') ++value;
    return std::string(value, strcspn(value, "\r\n"));
  }
  return "";
}

// Joins the pieces of a chunked body; false if it is not whole.
bool Unchunk(const std::string& in, std::string* out) {
  size_t at = 0;
  for (;;) {
    const size_t end = in.find("\r\n", at);
    if (end == std::string::npos) return false;
    const size_t size = strtoul(in.c_str() + at, nullptr, 16);
    if (size == 0) return true;
    if (size > kMaxAnswer || end + 2 + size + 2 > in.size()) return false;
    out->append(in, end + 2, size);
    at = end + 2 + size + 2;
  }
}

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
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      answer = Broken("no answer");
      close(fd);
      return answer;
    }
    if (n == 0 || text.size() > kMaxAnswer) break;
    text.append(buffer, static_cast<size_t>(n));
    const size_t head_end = text.find("\r\n\r\n");
    if (head_end == std::string::npos) continue;
    const std::string length = HeaderOf(text.substr(0, head_end + 2), "Content-Length");
    if (!length.empty() && text.size() >= head_end + 4 + strtoul(length.c_str(), nullptr, 10)) break;
  }
  close(fd);
  const size_t head_end = text.find("\r\n\r\n");
  if (head_end == std::string::npos || text.compare(0, 7, "HTTP/1.") != 0) {
    answer.error = "the answer is not whole";
    return answer;
  }
  const std::string head = text.substr(0, head_end + 2);
  answer.body = text.substr(head_end + 4);
  if (strcasecmp(HeaderOf(head, "Transfer-Encoding").c_str(), "chunked") == 0) {
    std::string joined;
    if (!Unchunk(answer.body, &joined)) {
      answer.error = "the answer is not whole";
      return answer;
    }
    answer.body = joined;
  }
  answer.status = atoi(head.c_str() + 9);
  return answer;
}

}  // namespace orch::launch
