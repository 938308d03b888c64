// Steps that would compute the same: the first attempt that starts leads, the others wait for it and take its outputs.
//
// A key is in one of three conditions: somebody leads; nobody leads and some ask (they stand in the ready queue, or the
// cache is being asked for them); nobody cares. Waiters exist only while somebody leads or asks. Everything follows
// from stored attempts and from asking the cache again, so a restart loses nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "server/model/rows.h"

namespace orch {

class SingleFlight {
 public:
  struct Step {
    RunKey run = 0;
    StepIx ix = 0;
    bool operator==(const Step& o) const { return run == o.run && ix == o.ix; }
    bool operator<(const Step& o) const { return std::tie(run, ix) < std::tie(o.run, o.ix); }
  };

  // The step is not in the cache and wants to start. True: it may; false: it waits for the leader.
  bool Ask(const std::string& key, Step step);
  // An attempt of the step starts. False: somebody else leads, and the step waits for it from now on.
  bool Lead(const std::string& key, Step step);
  // Of those that ask although somebody leads, at most `limit`: they wait from now on.
  std::vector<Step> Overtaken(const std::string& key, size_t limit);
  // The leader's attempt is over. Those returned look into the cache again: all that waited if its outputs are there
  // (`landed`), else the one that has waited longest.
  std::vector<Step> End(const std::string& key, Step leader, bool landed);
  // The step does not want to start any more. The step returned looks into the cache again in its place.
  std::optional<Step> Leave(const std::string& key, Step step);

  // nullopt: nobody leads.
  std::optional<Step> LeaderOf(const std::string& key) const;
  // True if the step waits for a leader, or for one that asks.
  bool Waits(const std::string& key, Step step) const;
  size_t size() const { return flights_.size(); }
  // What of the rules above does not hold; empty: all does.
  std::string Check() const;

 private:
  struct Flight {
    std::optional<Step> leader;
    std::set<Step> asking;
    std::map<uint64_t, Step> waiting;  // by the order in which they came
    std::map<Step, uint64_t> place;    // in `waiting`
  };
  static bool StopWaiting(Flight& flight, Step step);
  void Wait(Flight& flight, Step step);
  std::optional<Step> Promote(Flight& flight);
  void Forget(const std::string& key);

  std::unordered_map<std::string, Flight> flights_;
  uint64_t next_ = 1;
};

}  // namespace orch
