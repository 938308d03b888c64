// A connection to an HTTP server: a Unix socket, TCP, or TLS over TCP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "client/launch/endpoint.h"

namespace orch::launch {

// Not thread-safe.
class Connection {
 public:
  // Null: `error` says why. A read or write that waits for longer than `timeout_ms` fails.
  static std::unique_ptr<Connection> Open(const Endpoint& endpoint, int timeout_ms, std::string* error);
  virtual ~Connection() = default;

  // As write(2) and read(2), and never interrupted; -1 with `error` set.
  virtual long Write(const char* data, size_t size, std::string* error) = 0;
  // A piece of a file, as sendfile(2). 0: this connection cannot, the file has to be read.
  virtual long SendFile(int fd, int64_t offset, size_t size, std::string* error) {
    (void)fd, (void)offset, (void)size, (void)error;
    return 0;
  }
  virtual long Read(char* data, size_t size, std::string* error) = 0;
};

}  // namespace orch::launch
