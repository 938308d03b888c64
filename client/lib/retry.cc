#include "client/lib/retry.h"

#include <algorithm>
#include <random>

#include "absl/strings/match.h"
#include "server/base/status.h"

namespace orch::client {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

bool Retryable(const absl::Status& error) {
  if (error.code() == absl::StatusCode::kUnavailable) return true;
  if (error.code() != absl::StatusCode::kResourceExhausted) return false;
  if (RetryDelayOf(error) > 0) return true;
  // No reason: gRPC's own words. A message over the size limit stays over it.
  return ReasonOf(error).empty() && !absl::StrContains(error.message(), "message larger than max");
}

}  // namespace

Retries::Retries(const RetryPolicy& policy) : policy_(policy) {}

bool Retries::Again(const absl::Status& error, microseconds* wait) {
  if (!Retryable(error)) return false;
  const auto now = Steady::now();
  if (attempts_ == 0) first_failure_ = now;
  ++attempts_;
  microseconds left = microseconds::max();
  if (error.code() == absl::StatusCode::kUnavailable) {
    if (now - first_failure_ >= policy_.patience) return false;
    left = duration_cast<microseconds>(policy_.patience - (now - first_failure_));
  } else if (attempts_ >= policy_.max_attempts) {
    return false;
  }
  const int doublings = std::min(attempts_ - 1, 20);
  const auto step = std::min<microseconds>(policy_.initial * (int64_t{1} << doublings), policy_.max);
  thread_local std::minstd_rand random{std::random_device{}()};
  std::uniform_real_distribution<double> share(0.5, 1.0);
  *wait = microseconds(static_cast<int64_t>(static_cast<double>(step.count()) * share(random)));
  // The last try comes when the patience ends, not after.
  *wait = std::max<microseconds>(std::min(*wait, left), milliseconds(RetryDelayOf(error)));
  return true;
}

void Retries::Reset() { attempts_ = 0; }

}  // namespace orch::client
