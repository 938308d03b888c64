// Pools are the one mechanism of concurrency: a name and a number of slots. Every orchestrator, every run with
// max_parallel, and this machine's cpu, memory and gpus are pools too.
//
// What is in use is counted from live attempts, so a restart leaks nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace orch {

using PoolId = uint32_t;

// Slots of several pools, taken and given back together.
using SlotDemand = std::vector<std::pair<PoolId, int64_t>>;

class Pools {
 public:
  // The number of the pool of that name; made without a limit if it is new.
  PoolId Intern(const std::string& name);
  void SetCapacity(PoolId pool, int64_t slots);
  // Nobody will name it again; nothing of it is in use.
  void Forget(PoolId pool);
  // It does not limit any more.
  void ClearCapacity(PoolId pool);

  bool HasRoom(PoolId pool, int64_t slots) const {
    return !pools_[pool].limited || pools_[pool].used + slots <= pools_[pool].capacity;
  }
  bool Fits(const SlotDemand& demand) const;
  void Take(const SlotDemand& demand);
  void Give(const SlotDemand& demand);

  int64_t capacity(PoolId pool) const { return pools_[pool].capacity; }
  int64_t used(PoolId pool) const { return pools_[pool].used; }
  const std::string& name(PoolId pool) const { return pools_[pool].name; }
  size_t size() const { return pools_.size(); }
  // The first pool of `demand` without room; empty if it fits.
  std::string FirstFull(const SlotDemand& demand) const;

 private:
  struct Pool {
    std::string name;
    bool limited = false;
    int64_t capacity = 0;
    int64_t used = 0;
  };
  std::vector<Pool> pools_;
  std::map<std::string, PoolId> by_name_;
  std::vector<PoolId> free_;
};

}  // namespace orch
