#include "server/rpc/metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace orch::rpc {

void MethodMetrics::Count(absl::StatusCode code, int64_t micros) {
  const auto index = static_cast<size_t>(code);
  by_code[index < by_code.size() ? index : 2].fetch_add(1, std::memory_order_relaxed);
  const auto bound = std::lower_bound(kLatencyBoundsMicros.begin(), kLatencyBoundsMicros.end(), micros);
  buckets[static_cast<size_t>(bound - kLatencyBoundsMicros.begin())].fetch_add(1, std::memory_order_relaxed);
  micros_total.fetch_add(micros, std::memory_order_relaxed);
}

MethodMetrics* Metrics::Of(absl::string_view method) {
  MutexLock lock(&mutex_);
  std::unique_ptr<MethodMetrics>& found = methods_[std::string(method)];
  if (found == nullptr) found = std::make_unique<MethodMetrics>();
  return found.get();
}

std::string Metrics::AsText() const {
  std::string out = "# HELP orchd_calls_total Answered calls by method and code.\n# TYPE orchd_calls_total counter\n";
  std::string latency =
      "# HELP orchd_call_seconds Time from the call to its answer.\n# TYPE orchd_call_seconds histogram\n";
  MutexLock lock(&mutex_);
  for (const auto& [name, method] : methods_) {
    int64_t count = 0;
    for (size_t code = 0; code < method->by_code.size(); ++code) {
      const int64_t n = method->by_code[code].load(std::memory_order_relaxed);
      if (n == 0) continue;
      count += n;
      absl::StrAppend(&out, "orchd_calls_total{method=\"", name, "\",code=\"",
                      absl::StatusCodeToString(static_cast<absl::StatusCode>(code)), "\"} ", n, "\n");
    }
    if (count == 0) continue;
    int64_t below = 0;
    for (size_t b = 0; b < kLatencyBoundsMicros.size(); ++b) {
      below += method->buckets[b].load(std::memory_order_relaxed);
      absl::StrAppend(&latency, "orchd_call_seconds_bucket{method=\"", name, "\",le=\"",
                      static_cast<double>(kLatencyBoundsMicros[b]) / 1e6, "\"} ", below, "\n");
    }
    below += method->buckets.back().load(std::memory_order_relaxed);
    absl::StrAppend(&latency, "orchd_call_seconds_bucket{method=\"", name, "\",le=\"+Inf\"} ", below, "\n",
                    "orchd_call_seconds_sum{method=\"", name, "\"} ",
                    static_cast<double>(method->micros_total.load(std::memory_order_relaxed)) / 1e6, "\n",
                    "orchd_call_seconds_count{method=\"", name, "\"} ", below, "\n");
  }
  return out + latency;
}

}  // namespace orch::rpc
