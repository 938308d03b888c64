#include "server/http/head_watch.h"

#include <sys/socket.h>

#include <algorithm>
#include <chrono>

#include "server/base/clock.h"

namespace orch::http {
namespace {
// Between two looks, while there is anything to look at. Patience may last so much longer.
constexpr std::chrono::seconds kLook{2};
}  // namespace

class HeadWatch::Connection {
 public:
  int fd = -1;
  int64_t due = INT64_MAX;  // INT64_MAX: it has a request
  std::list<Connection>::iterator self;
};

HeadWatch::HeadWatch(Patience patience) : patience_(patience), thread_([this] { Run(); }) {}

HeadWatch::~HeadWatch() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

HeadWatch::Connection* HeadWatch::Opened(int fd) {
  const int64_t due = Clock::Real().Now().mono + patience_.first_micros;
  MutexLock lock(&mutex_);
  Connection& connection = connections_.emplace_back();
  connection.fd = fd;
  connection.due = due;
  connection.self = std::prev(connections_.end());
  if (connections_.size() == 1) changed_.NotifyAll();
  return &connection;
}

void HeadWatch::HeadCame(Connection* connection) {
  MutexLock lock(&mutex_);
  connection->due = INT64_MAX;
}

void HeadWatch::Answered(Connection* connection) {
  const int64_t due = Clock::Real().Now().mono + patience_.next_micros;
  MutexLock lock(&mutex_);
  connection->due = due;
}

void HeadWatch::Closed(Connection* connection) {
  MutexLock lock(&mutex_);
  connections_.erase(connection->self);
}

void HeadWatch::Run() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    if (connections_.empty()) {
      changed_.Wait(&mutex_);
      continue;
    }
    const int64_t now = Clock::Real().Now().mono;
    for (Connection& connection : connections_) {
      if (connection.due > now) continue;
      ::shutdown(connection.fd, SHUT_RDWR);  // its own thread sees the end, and closes it
      connection.due = INT64_MAX;
    }
    changed_.WaitFor(&mutex_, kLook);
  }
}

}  // namespace orch::http
