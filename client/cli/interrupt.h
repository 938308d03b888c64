// Ctrl-C as a wish to stop waiting.
#pragma once

#include <thread>

#include "client/lib/cancellation.h"

namespace orch::cli {

// While it lives, the first SIGINT or SIGTERM cancels `target`; a second one ends the program as usual. One at a time.
class Interrupt {
 public:
  explicit Interrupt(client::Cancellation* target);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

 private:
  std::thread thread_;
};

}  // namespace orch::cli
