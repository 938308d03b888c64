// Closes connections that do not come to a request: a client that sends a byte now and then, in a handshake or in a
// head, would otherwise keep one for ever, and all of them in the end.
#pragma once

#include <cstdint>
#include <list>
#include <thread>

#include "server/base/mutex.h"

namespace orch::http {

// Any thread.
class HeadWatch {
 public:
  struct Patience {
    int64_t first_micros = 30'000'000;  // from the connection to the end of the first head, the handshake included
    int64_t next_micros = 90'000'000;   // from an answer to the end of the next head; idling counts
  };
  explicit HeadWatch(Patience patience);
  ~HeadWatch();
  HeadWatch(const HeadWatch&) = delete;
  HeadWatch& operator=(const HeadWatch&) = delete;

  class Connection;
  // `fd` is shut down when patience is over; it must not be closed before Closed.
  Connection* Opened(int fd);
  void HeadCame(Connection* connection);
  void Answered(Connection* connection);
  void Closed(Connection* connection);  // `connection` is gone

 private:
  void Run();

  const Patience patience_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace orch::http
