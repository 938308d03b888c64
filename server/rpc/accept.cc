#include "server/rpc/accept.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "server/base/log.h"
#include "server/base/mutex.h"

namespace orch::rpc {
namespace {

Mutex mutex;
int spare ABSL_GUARDED_BY(mutex) = -1;
bool said ABSL_GUARDED_BY(mutex) = false;

int Spare() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

int Accept(int fd, sockaddr* address, socklen_t* size, int flags) {
  return static_cast<int>(syscall(SYS_accept4, fd, address, size, flags));
}

// Takes one waiting connection and closes it. False if none could be taken.
bool TurnAway(int fd) {
  MutexLock lock(&mutex);
  if (!said) Log(LogLevel::kError, "no descriptor is left: connections are turned away", {});
  said = true;
  if (spare < 0) spare = Spare();
  if (spare < 0) return false;
  close(spare);
  const int connection = Accept(fd, nullptr, nullptr, SOCK_CLOEXEC);
  if (connection >= 0) close(connection);
  spare = Spare();
  return connection >= 0;
}

}  // namespace

void KeepAccepting() {
  MutexLock lock(&mutex);
  if (spare < 0) spare = Spare();
}

}  // namespace orch::rpc

extern "C" __attribute__((visibility("default"))) int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  for (;;) {
    const int connection = orch::rpc::Accept(fd, address, size, flags);
    if (connection >= 0) return connection;
    switch (errno) {
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        if (orch::rpc::TurnAway(fd)) continue;
        errno = EAGAIN;
        return -1;
      // Errors of the connection that was to be accepted, not of the socket.
      case ECONNABORTED:
      case ENETDOWN:
      case EPROTO:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case EOPNOTSUPP:
      case ENETUNREACH:
        continue;
      default:
        return -1;
    }
  }
}
