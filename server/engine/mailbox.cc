#include "server/engine/mailbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/base/status.h"

namespace orch {
namespace {
constexpr int64_t kCalls = -1;
constexpr std::chrono::seconds kLongestWait(1);
}  // namespace

void Receipt::Complete(absl::Status status, int64_t number) {
  MutexLock lock(&mutex_);
  status_ = std::move(status);
  number_ = number;
  done_ = true;
  done_cv_.NotifyAll();
}

absl::Status Receipt::Wait(int64_t deadline_micros) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(deadline_micros);
  MutexLock lock(&mutex_);
  while (!done_) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return Error(absl::StatusCode::kDeadlineExceeded, "COMMIT_SLOW",
                   "the change was not on the disk in time; it may still happen: repeat it with the same request_id");
    }
    done_cv_.WaitFor(&mutex_, left);
  }
  return status_;
}

absl::Status Mailbox::Offer(Post post) {
  bool wake = false;
  {
    MutexLock lock(&mutex_);
    if (closed_) {
      return WithRetryDelay(Error(absl::StatusCode::kUnavailable, "STOPPING", "the daemon is stopping; try again soon"),
                            1000);
    }
    if (calls_ >= bound_) {
      return WithRetryDelay(
          Error(absl::StatusCode::kResourceExhausted, "BUSY", "the daemon has more work than it can take; try again"),
          200);
    }
    post.lane = kCalls;
    ++calls_;
    wake = Add(kCalls, std::move(post));
  }
  if (wake) filled_.NotifyOne();
  return absl::OkStatus();
}

void Mailbox::Put(Post post) {
  bool wake = false;
  {
    MutexLock lock(&mutex_);
    const int64_t lane = post.lane;
    wake = Add(lane, std::move(post));
  }
  if (wake) filled_.NotifyOne();
}

// True if the loop sleeps and is to be woken, once, and after the lock is free, so that it need not wait for that.
bool Mailbox::Add(int64_t lane, Post post) {
  posts_.Push(lane, std::move(post));
  depth_.store(posts_.size(), std::memory_order_relaxed);
  return std::exchange(waiting_, false);
}

void Mailbox::WaitForRoom(size_t posts) {
  if (depth() < posts) return;
  const auto until = std::chrono::steady_clock::now() + kLongestWait;
  MutexLock lock(&mutex_);
  while (posts_.size() >= posts && !closed_) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    drained_.WaitFor(&mutex_, left);
  }
}

void Mailbox::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  filled_.NotifyOne();
  drained_.NotifyAll();
}

bool Mailbox::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

std::deque<Post> Mailbox::Drain(const Clock& clock, int64_t deadline_mono, size_t limit) {
  std::deque<Post> out;
  MutexLock lock(&mutex_);
  while (posts_.empty() && !closed_) {
    int64_t wait = 3'600'000'000;
    if (deadline_mono != INT64_MAX) wait = std::min(wait, deadline_mono - clock.Now().mono);
    if (wait <= 0) break;
    waiting_ = true;
    filled_.WaitFor(&mutex_, std::chrono::microseconds(wait));
    waiting_ = false;
  }
  while (!posts_.empty() && out.size() < limit) {
    out.push_back(posts_.Pop());
    if (out.back().lane == kCalls) --calls_;
  }
  depth_.store(posts_.size(), std::memory_order_relaxed);
  drained_.NotifyAll();
  return out;
}

}  // namespace orch
