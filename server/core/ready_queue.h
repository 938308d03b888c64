// Steps that could start, in the order in which they should: priority, then the longest way to the end of their run,
// then age. Steps that need the same slots stand
// in one line (a class), so that a pass looks at the head of each line and not at every step.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "server/core/pools.h"
#include "server/model/rows.h"

namespace orch {

class ReadyQueue {
 public:
  struct Entry {
    int64_t order = 0;   // -priority: lower goes first
    int64_t weight = 0;  // -StepTemplate::below
    RunKey run = 0;
    StepIx ix = 0;
    int64_t ready_mono = 0;
    uint64_t sequence = 0;
    bool operator<(const Entry& o) const {
      return std::tie(order, weight, ready_mono, sequence) < std::tie(o.order, o.weight, o.ready_mono, o.sequence);
    }
  };

  // The line of all steps with this demand on this orchestrator.
  uint32_t Line(uint32_t orchestrator, const SlotDemand& demand);
  const SlotDemand& demand(uint32_t line) const { return lines_[line].demand; }
  // Nobody will ask for this line again (it named the pool of a run that has ended). It must be empty.
  void Forget(uint32_t line);

  // Returns the entry, to be kept for Remove. `below`: of its template; `ready_mono`: since when it could start.
  Entry Add(uint32_t line, int priority, uint32_t below, RunKey run, StepIx ix, int64_t ready_mono);
  void Remove(uint32_t line, const Entry& entry) { lines_[line].entries.erase(entry); }

  // Takes what fits, best first, at most `limit` of each orchestrator and no more than `allowance` says it takes now;
  // calls `start` for each after its slots are taken. A head that has waited `reserve_after` microseconds for a full
  // pool reserves that pool: later ones that need it do not pass. Returns true if the limit ended the pass.
  bool Pass(Pools* pools, const std::function<int(uint32_t orchestrator)>& allowance, int64_t now_mono,
            int64_t reserve_after, int limit, const std::function<void(uint32_t line, const Entry&)>& start);

  size_t size() const;

 private:
  struct LineOf {
    uint32_t orchestrator = 0;
    SlotDemand demand;
    std::set<Entry> entries;
  };
  std::vector<LineOf> lines_;
  std::map<std::pair<uint32_t, SlotDemand>, uint32_t> by_demand_;
  std::vector<uint32_t> free_;
  uint64_t next_sequence_ = 1;
};

}  // namespace orch
