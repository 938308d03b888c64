#include "tests/kubernetes/api_double.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/check.h"

namespace orch::kubernetes {
namespace {

// The head of a request; empty: there is no more.
std::string ReadRequest(int fd, std::string* buffer, std::string* body) {
  char piece[4096];
  while (true) {
    const size_t end = buffer->find("\r\n\r\n");
    if (end != std::string::npos) {
      const std::string head = buffer->substr(0, end);
      size_t length = 0;
      for (const absl::string_view line : absl::StrSplit(head, "\r\n")) {
        const std::pair<std::string, std::string> field = absl::StrSplit(line, absl::MaxSplits(": ", 1));
        if (absl::EqualsIgnoreCase(field.first, "Content-Length")) (void)absl::SimpleAtoi(field.second, &length);
      }
      if (buffer->size() >= end + 4 + length) {
        *body = buffer->substr(end + 4, length);
        buffer->erase(0, end + 4 + length);
        return head;
      }
    }
    const ssize_t got = read(fd, piece, sizeof(piece));
    if (got <= 0) return "";
    buffer->append(piece, static_cast<size_t>(got));
  }
}

void Send(int fd, const std::string& text) { (void)!send(fd, text.data(), text.size(), MSG_NOSIGNAL); }

}  // namespace

ApiDouble::ApiDouble(std::function<Said(const Asked&)> answer)
    : answer_(std::move(answer)), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(listen(listener_, 64) == 0);
  CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this] { Accept(); });
}

ApiDouble::~ApiDouble() {
  shutdown(listener_, SHUT_RDWR);
  accepting_.join();
  std::vector<std::thread> serving;
  {
    MutexLock lock(&mutex_);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    serving.swap(serving_);
  }
  for (std::thread& thread : serving) thread.join();
  close(listener_);
}

std::string ApiDouble::url() const { return absl::StrCat("http://127.0.0.1:", port_); }

std::vector<ApiDouble::Asked> ApiDouble::asked() const {
  MutexLock lock(&mutex_);
  return asked_;
}

size_t ApiDouble::count(const std::string& part) const {
  MutexLock lock(&mutex_);
  return static_cast<size_t>(std::count_if(asked_.begin(), asked_.end(),
                                           [&](const Asked& one) { return one.path.find(part) != std::string::npos; }));
}

bool ApiDouble::Await(const std::function<bool()>& done) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    MutexLock lock(&mutex_);
    changed_.WaitFor(&mutex_, std::chrono::milliseconds(100));  // also for what comes of an answer
  }
  return true;
}

ApiDouble::Said ApiDouble::Forbidden(const std::string& what) {
  return {403, absl::StrCat(R"({"kind":"Status","status":"Failure","reason":"Forbidden","code":403,"message":")", what,
                            R"( is forbidden"})")};
}

void ApiDouble::Accept() {
  while (true) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    MutexLock lock(&mutex_);
    open_.insert(fd);
    serving_.emplace_back([this, fd] { Serve(fd); });
  }
}

void ApiDouble::Serve(int fd) {
  std::string buffer, body;
  for (std::string head = ReadRequest(fd, &buffer, &body); !head.empty(); head = ReadRequest(fd, &buffer, &body)) {
    const std::vector<std::string> words = absl::StrSplit(head.substr(0, head.find("\r\n")), ' ');
    const Asked asked = {words[0], words.size() > 1 ? words[1] : "", head, body};
    Said said;
    {
      MutexLock lock(&mutex_);
      asked_.push_back(asked);
      changed_.NotifyAll();
      said = answer_(asked);
    }
    const std::string begin = absl::StrCat("HTTP/1.1 ", said.status, " .\r\nContent-Type: application/json\r\n");
    if (!asked.watch() || said.status != 200) {
      Send(fd, absl::StrCat(begin, "Content-Length: ", said.body.size(), "\r\n\r\n", said.body));
      continue;
    }
    Send(fd, absl::StrCat(begin, "Transfer-Encoding: chunked\r\n\r\n"));
    // A short one is over at once.
    if (asked.path.find("timeoutSeconds=1&") != std::string::npos) Send(fd, "0\r\n\r\n");
  }
  MutexLock lock(&mutex_);
  open_.erase(fd);
  close(fd);
}

}  // namespace orch::kubernetes
