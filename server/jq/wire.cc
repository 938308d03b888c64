#include "server/jq/wire.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace orch::jq {
namespace {

constexpr uint32_t kMaxBytes = 256u << 20;

bool WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = recv(fd, data, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void Append(std::string* out, const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  out->append(reinterpret_cast<const char*>(&size), sizeof(size));
  out->append(text);
}

bool ReadText(int fd, std::string* out) {
  uint32_t size = 0;
  if (!ReadAll(fd, reinterpret_cast<char*>(&size), sizeof(size)) || size > kMaxBytes) return false;
  out->resize(size);
  return ReadAll(fd, out->data(), size);
}

}  // namespace

bool Write(int fd, const Request& request) {
  if (request.expression.size() > kMaxBytes || request.input.size() > kMaxBytes) return false;
  std::string frame(1, request.compile_only ? '\1' : '\0');
  Append(&frame, request.expression);
  Append(&frame, request.input);
  return WriteAll(fd, frame.data(), frame.size());
}

bool Read(int fd, Request* request) {
  char kind = 0;
  if (!ReadAll(fd, &kind, 1)) return false;
  request->compile_only = kind != 0;
  return ReadText(fd, &request->expression) && ReadText(fd, &request->input);
}

bool Write(int fd, const Reply& reply) {
  std::string frame(1, static_cast<char>(reply.outcome));
  Append(&frame, reply.text.size() > kMaxBytes ? std::string("it is too large") : reply.text);
  return WriteAll(fd, frame.data(), frame.size());
}

bool Read(int fd, Reply* reply) {
  char outcome = 0;
  if (!ReadAll(fd, &outcome, 1) || outcome > static_cast<char>(Outcome::kFailed)) return false;
  reply->outcome = static_cast<Outcome>(outcome);
  return ReadText(fd, &reply->text);
}

}  // namespace orch::jq
