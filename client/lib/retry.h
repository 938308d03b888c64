// When a failed call is tried again, and after how long. Private to client/lib.
#pragma once

#include <chrono>

#include "absl/status/status.h"

namespace orch::client {

struct RetryPolicy {
  std::chrono::milliseconds initial{50};
  std::chrono::milliseconds max{2000};
  // Calls of one kind of trouble that is not UNAVAILABLE.
  int max_attempts = 6;
  // How long UNAVAILABLE is borne.
  std::chrono::milliseconds patience{10'000};
};

// The state of one call's attempts. One thread.
class Retries {
 public:
  explicit Retries(const RetryPolicy& policy);

  // Whether to try again after `error`; if so `*wait` is the pause: doubled each time, with jitter of a half, and never
  // shorter than what the daemon asked for.
  // Tried again: UNAVAILABLE within the patience; RESOURCE_EXHAUSTED if the daemon says when to come back, or if gRPC
  // itself refused for want of a thread.
  bool Again(const absl::Status& error, std::chrono::microseconds* wait);

  // A success begins anew.
  void Reset();

 private:
  RetryPolicy policy_;
  int attempts_ = 0;
  std::chrono::steady_clock::time_point first_failure_{};
};

}  // namespace orch::client
