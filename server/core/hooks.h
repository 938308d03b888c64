// Hooks: commands that run when a step or a run has ended. They are on record from the commit of that end, run in the
// order in which they were made, at most so many at a time, and change nothing of what they are about.
//
// A hook is begun at least once. Its id stays the same; each beginning has a key of its own, so that one whose
// supervisor was lost is begun again, and one that only the daemon forgot is not. As pure as the dispatcher.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <queue>
#include <string>
#include <tuple>
#include <vector>

#include "server/base/clock.h"
#include "server/core/messages.h"

namespace orch {

struct HookPolicy {
  int at_once = 16;
  int64_t limit_micros = 300'000'000;  // a hook that runs longer is stopped
  int64_t grace_micros = 10'000'000;   // then by force
};

class HookQueue {
 public:
  HookQueue(std::string instance, HookPolicy policy) : instance_(std::move(instance)), policy_(policy) {}

  // One that the store has as not ended. Before the first event.
  void Restore(HookRow row, Now now);
  // Those that may be running, for their supervisor to be asked about.
  std::vector<HookRow> Running() const;

  // What a step or run that has just ended leaves to be done. Gives it its id.
  void Add(HookRow row, const std::string& run_id, Now now);
  // Drops reports of those that nobody waits for.
  void On(HookReported& event, Now now);
  void Tick(Now now);
  int64_t NextDeadline() const;

  // Rows and intents since the last call, each row once.
  void Take(Batch* batch, std::vector<Intent>* intents);
  bool HasDecided() const { return !dirty_.empty() || !intents_.empty(); }
  size_t size() const { return hooks_.size(); }
  int64_t running() const { return running_; }
  // Hooks of the run that have not ended.
  bool Has(RunKey run) const;

 private:
  struct Hook {
    HookRow row;
    bool dirty = false;
    bool stopping = false;
  };
  struct Timer {
    int64_t due;
    std::string id;
    uint32_t tries;
    bool forced;
    bool operator>(const Timer& o) const { return std::tie(due, id) > std::tie(o.due, o.id); }
  };

  void Begin(Hook& hook, Now now);
  void End(Hook& hook, HookState state, std::string message, Now now);
  void Touch(Hook& hook);
  void Want(Intent::Kind kind, const Hook& hook, bool forced = false);
  void StartTimer(const Hook& hook, int64_t due, bool forced);

  const std::string instance_;
  const HookPolicy policy_;
  std::map<std::string, Hook> hooks_;          // by id
  std::map<std::string, std::string> by_key_;  // id, by key
  std::deque<std::string> waiting_;            // ids
  int64_t running_ = 0;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::vector<std::string> dirty_;  // ids
  std::vector<Intent> intents_;
  std::vector<HookRow> ended_;  // rows of hooks that are in no map any more
};

}  // namespace orch
