#include "server/core/admission.h"

#include <algorithm>
#include <utility>

#include "server/base/planted.h"

namespace orch {

void Breaker::Open(const BreakerPolicy& policy, Now now) {
  wait_ = wait_ == 0 ? policy.first_micros : std::min(wait_ * 2, policy.max_micros);
  if (state_ == State::kClosed) since_wall_ = now.wall;
  state_ = State::kOpen;
  trial_ = false;
  probe_due_ = now.mono + wait_;
  retry_wall_ = now.wall + wait_;
}

bool Breaker::Failed(const BreakerPolicy& policy, Now now, std::string why) {
  ++failures_;
  last_error_ = std::move(why);
  const bool opens =
      state_ == State::kTrying || (state_ == State::kClosed && policy.failures > 0 && failures_ >= policy.failures);
  if (opens) Open(policy, now);
  return opens;
}

bool Breaker::Succeeded(Now now) {
  failures_ = 0;
  if (state_ == State::kClosed) return false;
  state_ = State::kClosed;
  trial_ = false;
  wait_ = 0;
  probe_due_ = INT64_MAX;
  retry_wall_ = 0;
  since_wall_ = now.wall;
  last_error_.clear();
  return true;
}

bool Breaker::BeginProbe(int64_t mono) {
  if (state_ != State::kOpen || mono < probe_due_ || ORCH_PLANTED("never_probe")) return false;
  state_ = State::kProbing;
  probe_due_ = INT64_MAX;
  retry_wall_ = 0;
  return true;
}

void Breaker::Probed(const BreakerPolicy& policy, Now now, bool well, std::string why) {
  if (state_ != State::kProbing && state_ != State::kOpen) return;  // nobody asks any more
  if (well) {
    state_ = State::kTrying;
    trial_ = false;
    probe_due_ = INT64_MAX;
    retry_wall_ = 0;
    return;
  }
  last_error_ = std::move(why);
  if (state_ == State::kProbing) Open(policy, now);  // asked before it was due, the time stands
}

void Rate::Set(int64_t milli) {
  milli_ = milli;
  if (milli == 0) return;
  interval_ = std::max<int64_t>(1, 1'000'000'000 / milli);
  slack_ = std::max<int64_t>(0, milli / 1000 - 1) * interval_;
  full_at_ = 0;
}

int64_t Rate::Available(int64_t mono, int64_t most) const {
  if (milli_ == 0) return most;
  const int64_t ahead = std::max(full_at_, mono) - mono;
  return ahead > slack_ ? 0 : std::min(most, (slack_ - ahead) / interval_ + 1);
}

void Rate::Take(int64_t mono) {
  if (milli_ != 0) full_at_ = std::max(full_at_, mono) + interval_;
}

}  // namespace orch
