// The ends whose launcher may have left its word behind (engine/left_behind.h): each is judged once at a time, apart
// from everything else, and again after growing pauses while the place where the word may be is away.
//
// Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "backends/api/backend.h"
#include "server/base/mutex.h"
#include "server/engine/executor.h"
#include "server/engine/workshop.h"

namespace orch {

class Judgements {
 public:
  // Both outlive it.
  Judgements(Workshop* workshop, Executor* executor) : workshop_(workshop), executor_(executor) {}
  // The pauses of one judgement add up to this; then its end is what is known by then. Above zero; before any other
  // call.
  void SetPatience(std::chrono::milliseconds patience) { patience_ = patience; }

  // Hears of the end once: whether the launcher told it, and the end as Workshop::Judge completed it.
  using Tell = std::function<void(bool told, AttemptEnd end)>;
  // Nothing if this attempt is being judged.
  void Begin(const std::string& key, AttemptEnd end, Tell tell);
  bool IsAt(const std::string& key);
  // Nobody waits for what it made any more: asked once more, now.
  void Hurry(const std::string& key);
  // It is over; nothing is told.
  void Forget(const std::string& key);

 private:
  struct Case {
    AttemptEnd end;
    Tell tell;
    uint64_t turn = 0;  // whose it is: calls of earlier ones do nothing
    bool under_way = false;
    bool last = false;
    std::chrono::milliseconds pause{1'000};  // the next one
    std::chrono::milliseconds waited{0};
  };
  void Look(const std::string& key, uint64_t turn);
  void LookLater(const std::string& key, uint64_t turn, std::chrono::milliseconds pause);

  Workshop* const workshop_;
  Executor* const executor_;
  std::chrono::milliseconds patience_ = std::chrono::hours(1);
  Mutex mutex_;
  std::map<std::string, Case> cases_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_turn_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace orch
