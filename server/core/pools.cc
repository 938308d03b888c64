#include "server/core/pools.h"

#include "server/base/check.h"
#include "server/base/planted.h"

namespace orch {

PoolId Pools::Intern(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) return found->second;
  PoolId pool = static_cast<PoolId>(pools_.size());
  if (free_.empty()) {
    pools_.emplace_back();
  } else {
    pool = free_.back();
    free_.pop_back();
  }
  pools_[pool] = {name, false, 0, 0};
  by_name_.emplace(name, pool);
  return pool;
}

void Pools::Forget(PoolId pool) {
  CHECK(pools_[pool].used == 0);
  by_name_.erase(pools_[pool].name);
  pools_[pool] = {};
  free_.push_back(pool);
}

void Pools::SetCapacity(PoolId pool, int64_t slots) {
  pools_[pool].limited = true;
  pools_[pool].capacity = slots;
}

void Pools::ClearCapacity(PoolId pool) { pools_[pool].limited = false; }

bool Pools::Fits(const SlotDemand& demand) const {
  if (ORCH_PLANTED("ignore_limit")) return true;
  for (const auto& [pool, amount] : demand) {
    if (!HasRoom(pool, amount)) return false;
  }
  return true;
}

void Pools::Take(const SlotDemand& demand) {
  for (const auto& [pool, amount] : demand) pools_[pool].used += amount;
}

void Pools::Give(const SlotDemand& demand) {
  for (const auto& [pool, amount] : demand) {
    pools_[pool].used -= amount;
    CHECK(pools_[pool].used >= 0);
  }
}

std::string Pools::FirstFull(const SlotDemand& demand) const {
  for (const auto& [pool, amount] : demand) {
    if (!HasRoom(pool, amount)) return pools_[pool].name;
  }
  return "";
}

}  // namespace orch
