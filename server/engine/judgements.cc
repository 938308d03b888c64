#include "server/engine/judgements.h"

#include <algorithm>
#include <utility>

namespace orch {
namespace {
constexpr std::chrono::milliseconds kLongestPause{60'000};
}  // namespace

void Judgements::Begin(const std::string& key, AttemptEnd end, Tell tell) {
  uint64_t turn = 0;
  {
    MutexLock lock(&mutex_);
    const auto [found, is_new] = cases_.try_emplace(key);
    if (!is_new) return;
    found->second.end = std::move(end);
    found->second.tell = std::move(tell);
    turn = found->second.turn = ++last_turn_;
  }
  LookLater(key, turn, std::chrono::milliseconds(0));
}

bool Judgements::IsAt(const std::string& key) {
  MutexLock lock(&mutex_);
  return cases_.count(key) > 0;
}

void Judgements::Hurry(const std::string& key) {
  uint64_t turn = 0;
  {
    MutexLock lock(&mutex_);
    const auto found = cases_.find(key);
    if (found == cases_.end() || std::exchange(found->second.last, true) || found->second.under_way) return;
    turn = found->second.turn = ++last_turn_;
  }
  LookLater(key, turn, std::chrono::milliseconds(0));
}

void Judgements::Forget(const std::string& key) {
  MutexLock lock(&mutex_);
  cases_.erase(key);
}

void Judgements::LookLater(const std::string& key, uint64_t turn, std::chrono::milliseconds pause) {
  executor_->Slowly(pause, [this, key, turn] { Look(key, turn); });
}

void Judgements::Look(const std::string& key, uint64_t turn) {
  for (;;) {
    AttemptEnd end;
    bool last = false;
    {
      MutexLock lock(&mutex_);
      const auto found = cases_.find(key);
      if (found == cases_.end() || found->second.turn != turn) return;
      found->second.under_way = true;
      end = found->second.end;
      last = found->second.last;
    }
    const Workshop::Judged judged = workshop_->Judge(key, last, &end);
    Tell tell;
    std::chrono::milliseconds pause{0};
    uint64_t next = 0;
    {
      MutexLock lock(&mutex_);
      const auto found = cases_.find(key);
      if (found == cases_.end() || found->second.turn != turn) return;
      Case& one = found->second;
      if (judged != Workshop::Judged::kAskAgain) {
        tell = std::move(one.tell);
      } else if (one.last) {  // since a moment ago
        continue;
      } else {
        pause = std::min(one.pause, patience_ - one.waited);
        one.pause = std::min(2 * one.pause, kLongestPause);
        one.waited += pause;
        one.last = one.waited >= patience_;
        one.under_way = false;
        next = one.turn = ++last_turn_;
      }
    }
    if (!tell) return LookLater(key, next, pause);
    tell(judged == Workshop::Judged::kTold, std::move(end));
    MutexLock lock(&mutex_);  // after it is told: until then what is said again is a repetition
    const auto found = cases_.find(key);
    if (found != cases_.end() && found->second.turn == turn) cases_.erase(found);
    return;
  }
}

}  // namespace orch
