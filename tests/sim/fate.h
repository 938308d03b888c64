// What happens and when in a simulated world: chance from one seed, virtual time, the agenda, and the first thing that
// was found broken. One thread; nothing here depends on the machine.
#pragma once

#include <array>
#include <cstdint>
#include <queue>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace orch::sim {

inline constexpr int64_t kSecond = 1'000'000;

// Small, fast and the same everywhere (splitmix64).
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint64_t Roll() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  // 0 <= n < below.
  uint64_t Draw(uint64_t below) { return below <= 1 ? 0 : Roll() % below; }
  bool Percent(int chance) { return chance > 0 && Draw(100) < static_cast<uint64_t>(chance); }
  // 1 to `most` microseconds.
  int64_t Delay(int64_t most) { return static_cast<int64_t>(Draw(static_cast<uint64_t>(most))) + 1; }

 private:
  uint64_t state_;
};

// What may go wrong. Each world draws which of them it has and how often, so that a seed has one character.
enum class Fault : uint8_t {
  kLostAnswer,    // the platform's answer to a submission is lost, the job may be there or not
  kRefuseForNow,  // percent, as all but the crashes
  kRefuseForGood,
  kRepeat,   // a report comes twice
  kLate,     // a report is seconds late, behind later ones
  kNoStart,  // no start is reported before the end
  kJobFails,
  kJobLost,
  kEndsAtOnce,
  kLongJob,      // runs for minutes unless it is stopped
  kIgnoresStop,  // a graceful one
  kVanish,       // with a restart of the daemon jobs vanish, or nobody knows them
  kPublishEarly,
  kStoreFails,
  kStoreSlow,
  kRenderFails,
  kResolveFails,
  kCrash,         // per thousand commits
  kCrashBetween,  // per ten thousand turns, between any two pieces of work
  kCancelRun,
  kCancelStep,
  kHealthFlap,
  kWallJump,
  kReboot,  // with a restart of the daemon the monotonic clock begins anew
  kPauseRun,
  kSkipStep,
  kRetryRun,
  kRetrySteps,  // chosen ones
  kDeleteRun,
  kInvalidate,
  kRetryOther,  // a retry, with another pipeline
  kCount
};
inline constexpr size_t kFaultCount = static_cast<size_t>(Fault::kCount);
using Faults = std::array<int, kFaultCount>;
absl::string_view Name(Fault fault);

enum class What : uint8_t {
  kJobStart,
  kJobPublish,  // b: output
  kJobEnd,
  kJobStopped,
  kReport,  // a: job, b: Word
  kTurn,
  kOrders,      // the line of work in order
  kAside,       // a: place
  kSubmitRun,   // a: run
  kCancelRun,   // a: run, b: forced
  kCancelStep,  // a: run, b: step
  kInvalidate,  // a: run, whose steps' entries are taken out of the cache
  kPauseRun,    // a: run
  kResumeRun,   // a: run
  kSkipStep,    // a: run, b: step
  kRetryRun,    // a: run, b: how often it has found the run open
  kDeleteRun,   // a: run, b: the same
  kWatch,
  kHealth,   // b: healthy
  kHookEnd,  // a: job, b: by a stop
  kWallJump,
  kStart,  // of the daemon
};

struct Action {
  int64_t due = 0;
  uint64_t tie = 0;
  What what = What::kTurn;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t life = 0;  // of the daemon that it belongs to; 0: any
};

class Fate : public Clock {
 public:
  Fate(uint64_t seed, const Faults& faults) : dice(seed), faults_(faults) {}

  // As the daemon sees it: its monotonic clock begins with the boot.
  orch::Now Now() const override { return {mono_ - boot_, mono_ + wall_offset_}; }
  int64_t mono() const { return mono_; }
  void Reboot() { boot_ = mono_ - kSecond; }
  int64_t boot() const { return boot_; }
  void JumpWall(int64_t micros) { wall_offset_ += micros; }

  bool Happens(Fault fault) { return quiet_ ? false : dice.Percent(faults_[static_cast<size_t>(fault)]); }
  bool HappensOf(Fault fault, uint64_t of) {
    const auto rate = static_cast<uint64_t>(faults_[static_cast<size_t>(fault)]);
    return !quiet_ && rate > 0 && dice.Draw(of) < rate;
  }
  bool Has(Fault fault) const { return faults_[static_cast<size_t>(fault)] > 0; }
  // From now on nothing new goes wrong: everything must come to its end.
  void Calm() { quiet_ = true; }
  bool calm() const { return quiet_; }

  void Later(int64_t delay, What what, uint32_t a = 0, uint32_t b = 0, uint32_t life = 0) {
    agenda_.push({mono_ + delay, next_tie_++, what, a, b, life});
  }
  bool empty() const { return agenda_.empty(); }
  int64_t NextDue() const { return agenda_.empty() ? INT64_MAX : agenda_.top().due; }
  // The next action; its time has come.
  Action Next();
  void PassTo(int64_t mono) { mono_ = mono > mono_ ? mono : mono_; }

  // The first one counts.
  template <typename... Parts>
  void Break(const Parts&... parts) {
    if (broken_.empty()) broken_ = absl::StrCat(parts...);
  }
  const std::string& broken() const { return broken_; }

  // Something worth telling if the world breaks; the newest are kept.
  void Note(const char* what, int64_t a = 0, int64_t b = 0, int64_t c = 0);
  std::vector<std::string> Notes() const;

  Dice dice;

 private:
  struct DueLater {
    bool operator()(const Action& x, const Action& y) const { return std::tie(x.due, x.tie) > std::tie(y.due, y.tie); }
  };
  struct Noted {
    int64_t mono;
    const char* what;
    int64_t a, b, c;
  };

  const Faults faults_;
  int64_t mono_ = 1'000 * kSecond;
  int64_t wall_offset_ = 1'700'000'000 * kSecond;
  int64_t boot_ = 0;
  bool quiet_ = false;
  uint64_t next_tie_ = 1;
  std::priority_queue<Action, std::vector<Action>, DueLater> agenda_;
  std::string broken_;
  std::array<Noted, 64> notes_{};
  size_t noted_ = 0;
};

}  // namespace orch::sim
