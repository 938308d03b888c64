// Counters of calls by method and code, with a histogram of their latency. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace orch::rpc {

inline constexpr std::array<int64_t, 12> kLatencyBoundsMicros = {
    100, 250, 500, 1'000, 2'500, 5'000, 10'000, 100'000, 250'000, 1'000'000, 5'000'000, 60'000'000};

struct MethodMetrics {
  std::array<std::atomic<int64_t>, 17> by_code{};
  std::array<std::atomic<int64_t>, kLatencyBoundsMicros.size() + 1> buckets{};
  std::atomic<int64_t> micros_total{0};
  std::atomic<int64_t> running{0};

  void Count(absl::StatusCode code, int64_t micros);
};

class Metrics {
 public:
  // Made at the first call; the pointer stays good.
  MethodMetrics* Of(absl::string_view method);
  // Prometheus text format.
  std::string AsText() const;

  std::atomic<int64_t> watch_streams{0};
  std::atomic<int64_t> log_streams{0};
  std::atomic<int64_t> waiters{0};
  std::atomic<int64_t> refused_tokens{0};

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::unique_ptr<MethodMetrics>> methods_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::rpc
