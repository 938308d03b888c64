#include "client/launch/http_client.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace orch::launch {
namespace {

constexpr size_t kMaxHead = 64 << 10;
constexpr size_t kPiece = 256 << 10;

}  // namespace

HttpAnswer HttpClient::Do(const HttpCall& call) {
  const bool kept = connection_ != nullptr;
  bool nothing_came = false;
  HttpAnswer answer = Try(call, &nothing_came);
  if (answer.status == 0) connection_.reset();
  // The other side closed an idle connection; all calls of ours may be made twice.
  if (answer.status == 0 && kept && nothing_came) {
    answer = Try(call, &nothing_came);
    if (answer.status == 0) connection_.reset();
  }
  return answer;
}

HttpAnswer HttpClient::Try(const HttpCall& call, bool* nothing_came) {
  *nothing_came = true;
  HttpAnswer failed;
  const auto broken = [&](const std::string& why) {
    failed.error = why;
    return failed;
  };
  std::string error;
  if (connection_ == nullptr) {
    connection_ = Connection::Open(endpoint_, call.timeout_ms, &error);
    if (connection_ == nullptr) return broken(error);
  }
  const auto send = [&](const char* data, size_t size) {
    while (size > 0) {
      const long n = connection_->Write(data, size, &error);
      if (n <= 0) return false;
      data += n;
      size -= static_cast<size_t>(n);
    }
    return true;
  };
  const int64_t length = call.fd >= 0 ? call.length : static_cast<int64_t>(call.body.size());
  std::string head =
      call.method + " " + endpoint_.prefix + call.target + " HTTP/1.1\r\nHost: " + endpoint_.authority() + "\r\n";
  for (const auto& [name, value] : call.headers) head += name + ": " + value + "\r\n";
  if (call.method != "GET" && call.method != "HEAD") head += "Content-Length: " + std::to_string(length) + "\r\n";
  head += "\r\n";
  if (call.fd < 0) head += call.body;
  const auto buffer = std::make_unique<char[]>(kPiece);
  bool sent = send(head.data(), head.size());
  bool by_kernel = true;
  for (int64_t at = 0; sent && call.fd >= 0 && at < call.length;) {
    if (by_kernel) {
      const long n = connection_->SendFile(call.fd, call.offset + at, static_cast<size_t>(call.length - at), &error);
      sent = n >= 0;
      by_kernel = n > 0;  // 0 also at the end of a file that has become shorter, which is seen below
      at += std::max(n, 0L);
      continue;
    }
    const ssize_t n = pread(call.fd, buffer.get(), static_cast<size_t>(std::min<int64_t>(kPiece, call.length - at)),
                            call.offset + at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      connection_.reset();  // half a request is sent
      return broken(n == 0 ? "the file has become shorter" : std::string("cannot read the file: ") + strerror(errno));
    }
    sent = send(buffer.get(), static_cast<size_t>(n));
    at += n;
  }
  // An answer may have come although not all was sent: a refusal.
  std::string text;
  size_t end = std::string::npos;
  while (end == std::string::npos) {
    const long n = connection_->Read(buffer.get(), kPiece, &error);
    if (n <= 0) return broken(n == 0 && error.empty() ? "the connection was closed" : error);
    *nothing_came = false;
    text.append(buffer.get(), static_cast<size_t>(n));
    end = text.find("\r\n\r\n");
    // Interim answers are passed over.
    while (end != std::string::npos && text.size() > 9 && text[9] == '1') {
      text.erase(0, end + 4);
      end = text.find("\r\n\r\n");
    }
    if (end == std::string::npos && text.size() > kMaxHead) return broken("the answer is no HTTP");
  }
  AnswerHead said;
  const std::string answer_head = text.substr(0, end + 2);
  if (!ReadHead(answer_head, &said)) return broken("the answer is no HTTP");
  HttpAnswer answer;
  const bool no_body = call.method == "HEAD" || said.status == 204 || said.status == 304;
  if (no_body) {
    answer.status = said.status;
    answer.head = answer_head;
  } else if (call.take && (said.status == 200 || said.status == 206)) {
    if (!said.sized) return broken("the answer does not say how long it is");
    answer.head = answer_head;
    int64_t left = said.length;
    std::string_view piece = std::string_view(text).substr(end + 4);
    for (;;) {
      piece = piece.substr(0, static_cast<size_t>(std::min<int64_t>(left, static_cast<int64_t>(piece.size()))));
      left -= static_cast<int64_t>(piece.size());
      if (!piece.empty() && !call.take(piece)) return broken("what came could not be kept");
      if (left == 0) break;
      const long n = connection_->Read(buffer.get(), kPiece, &error);
      if (n <= 0) return broken(n == 0 && error.empty() ? "the answer is not whole" : error);
      piece = std::string_view(buffer.get(), static_cast<size_t>(n));
    }
    answer.status = said.status;
  } else {
    AnswerReader reader;
    reader.Append(text);
    while (!reader.complete()) {
      const long n = connection_->Read(buffer.get(), kPiece, &error);
      if (n < 0) return broken(error);
      if (n == 0) break;
      reader.Append(std::string_view(buffer.get(), static_cast<size_t>(n)));
    }
    answer = reader.Finish();
    if (!said.sized) connection_.reset();
  }
  if (!sent || answer.Header("Connection") == "close" || answer.Header("Connection") == "Close") connection_.reset();
  return answer;
}

}  // namespace orch::launch
