#include "client/cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "server/base/check.h"

namespace orch::cli {
namespace {

// A handler may only write to a pipe; a thread reads it. The other threads are gRPC's, so blocking the signals and
// waiting for them would come too late for some.
int g_pipe[2] = {-1, -1};

void OnSignal(int) {
  const int saved = errno;
  const char byte = 's';
  if (write(g_pipe[1], &byte, 1) < 0) {
    // Nothing can be done in a handler; the second signal ends the program.
  }
  errno = saved;
}

void SetHandler(void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

Interrupt::Interrupt(client::Cancellation* target) {
  CHECK(pipe2(g_pipe, O_CLOEXEC) == 0);
  thread_ = std::thread([target] {
    char byte = 0;
    ssize_t n = 0;
    while ((n = read(g_pipe[0], &byte, 1)) < 0 && errno == EINTR) {
    }
    if (n == 1 && byte == 's') target->Cancel();
  });
  SetHandler(OnSignal, static_cast<int>(SA_RESETHAND | static_cast<unsigned>(SA_RESTART)));
}

Interrupt::~Interrupt() {
  SetHandler(SIG_DFL, 0);
  const char byte = 'q';
  CHECK(write(g_pipe[1], &byte, 1) == 1);
  thread_.join();
  close(g_pipe[0]);
  close(g_pipe[1]);
}

}  // namespace orch::cli
