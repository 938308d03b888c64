#include "tests/kubernetes/scripted_transport.h"

#include <poll.h>

namespace orch::kubernetes {

Scripted& ScriptedTransport::Expect(const std::string& method, const std::string& path, int status,
                                    const std::string& body) {
  Scripted step{method, path, {}, {}, false};
  step.answer.status = status;
  (status == 0 ? step.answer.failure : step.answer.body) = body;
  script_.push_back(std::move(step));
  return script_.back();
}

uint64_t ScriptedTransport::Begin(HttpRequest request, Data data, Done done) {
  Exchange exchange{std::move(data), std::move(done), {}, {}, false};
  auto step = script_.begin();
  while (step != script_.end() &&
         (step->method != request.method || request.path.find(step->path) == std::string::npos)) {
    ++step;
  }
  if (step == script_.end()) {
    odd.push_back(request.method + " " + request.path);
    exchange.answer.failure = "not in the script";
  } else {
    exchange.answer = step->answer;
    exchange.pieces.assign(step->pieces.begin(), step->pieces.end());
    exchange.open = step->open;
    script_.erase(step);
  }
  seen.push_back({std::move(request), clock_->mono, false});
  exchanges_.emplace(seen.size(), std::move(exchange));
  return seen.size();
}

void ScriptedTransport::Abort(uint64_t id) {
  if (exchanges_.erase(id) > 0) seen[id - 1].aborted = true;
}

void ScriptedTransport::Push(size_t index, const std::string& piece) {
  exchanges_.at(index + 1).pieces.push_back(piece);
}

void ScriptedTransport::End(size_t index, HttpAnswer answer) {
  exchanges_.at(index + 1).answer = std::move(answer);
  exchanges_.at(index + 1).open = false;
}

void ScriptedTransport::Poll(int millis, const std::vector<int>& fds) {
  for (auto& [id, exchange] : exchanges_) {
    if (!exchange.pieces.empty()) {
      const std::string piece = exchange.pieces.front();
      exchange.pieces.pop_front();
      const Data data = exchange.data;  // which may abort it
      data(piece);
      return;
    }
    if (exchange.open) continue;
    const uint64_t over = id;
    const Done done = std::move(exchange.done);
    HttpAnswer answer = std::move(exchange.answer);
    exchanges_.erase(over);
    done(std::move(answer));
    return;
  }
  if (!fds.empty()) {  // of a real process: real time
    std::vector<pollfd> list;
    for (const int fd : fds) list.push_back({fd, POLLIN, 0});
    (void)::poll(list.data(), list.size(), 60'000);
    return;
  }
  clock_->mono += int64_t{millis} * 1000;
}

}  // namespace orch::kubernetes
