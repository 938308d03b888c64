#include "server/core/ready_queue.h"

#include <algorithm>

namespace orch {

uint32_t ReadyQueue::Line(uint32_t orchestrator, const SlotDemand& demand) {
  const auto found = by_demand_.find({orchestrator, demand});
  if (found != by_demand_.end()) return found->second;
  uint32_t line = static_cast<uint32_t>(lines_.size());
  if (free_.empty()) {
    lines_.emplace_back();
  } else {
    line = free_.back();
    free_.pop_back();
  }
  lines_[line] = {orchestrator, demand, {}};
  by_demand_.emplace(std::make_pair(orchestrator, demand), line);
  return line;
}

void ReadyQueue::Forget(uint32_t line) {
  by_demand_.erase({lines_[line].orchestrator, lines_[line].demand});
  lines_[line].demand.clear();
  free_.push_back(line);
}

ReadyQueue::Entry ReadyQueue::Add(uint32_t line, int priority, uint32_t below, RunKey run, StepIx ix,
                                  int64_t ready_mono) {
  const Entry entry{-priority, -int64_t{below}, run, ix, ready_mono, next_sequence_++};
  lines_[line].entries.insert(entry);
  return entry;
}

bool ReadyQueue::Pass(Pools* pools, const std::function<int(uint32_t)>& allowance, int64_t now_mono,
                      int64_t reserve_after, int limit, const std::function<void(uint32_t, const Entry&)>& start) {
  using Head = std::pair<Entry, uint32_t>;
  const auto later = [](const Head& a, const Head& b) { return b.first < a.first; };
  std::vector<Head> heads;         // a heap with the best on top
  std::map<uint32_t, int> allows;  // by orchestrator
  for (uint32_t l = 0; l < lines_.size(); ++l) {
    if (lines_[l].entries.empty()) continue;
    const auto [allowed, fresh] = allows.try_emplace(lines_[l].orchestrator, 0);
    if (fresh) allowed->second = allowance(lines_[l].orchestrator);
    if (allowed->second > 0) heads.push_back({*lines_[l].entries.begin(), l});
  }
  std::make_heap(heads.begin(), heads.end(), later);
  std::set<PoolId> reserved;
  std::map<uint32_t, int> started;  // by orchestrator
  bool more = false;
  while (!heads.empty()) {
    std::pop_heap(heads.begin(), heads.end(), later);
    const Head head = heads.back();
    heads.pop_back();
    LineOf& line = lines_[head.second];
    const bool barred = std::any_of(line.demand.begin(), line.demand.end(),
                                    [&](const auto& slot) { return reserved.count(slot.first) > 0; });
    if (barred || !pools->Fits(line.demand)) {
      if (now_mono - head.first.ready_mono >= reserve_after) {
        for (const auto& [pool, amount] : line.demand) {
          if (!pools->HasRoom(pool, amount)) reserved.insert(pool);
        }
      }
      continue;  // the rest of this line needs the same and is later
    }
    int& granted = started[line.orchestrator];
    if (granted >= limit) {
      more = true;
      continue;
    }
    if (granted >= allows[line.orchestrator]) continue;
    ++granted;
    pools->Take(line.demand);
    line.entries.erase(line.entries.begin());
    const uint32_t l = head.second;
    start(l, head.first);
    if (!lines_[l].entries.empty()) {
      heads.push_back({*lines_[l].entries.begin(), l});
      std::push_heap(heads.begin(), heads.end(), later);
    }
  }
  return more;
}

size_t ReadyQueue::size() const {
  size_t n = 0;
  for (const LineOf& line : lines_) n += line.entries.size();
  return n;
}

}  // namespace orch
