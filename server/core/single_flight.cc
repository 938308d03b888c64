#include "server/core/single_flight.h"

#include <utility>

#include "server/base/planted.h"

namespace orch {

bool SingleFlight::Ask(const std::string& key, Step step) {
  Flight& flight = flights_[key];
  if (flight.leader.has_value() && !(*flight.leader == step) && !ORCH_PLANTED("fly_twice")) {
    Wait(flight, step);
    return false;
  }
  flight.asking.insert(step);
  return true;
}

bool SingleFlight::Lead(const std::string& key, Step step) {
  Flight& flight = flights_[key];
  if (flight.leader.has_value() && !(*flight.leader == step) && !ORCH_PLANTED("fly_twice")) {
    flight.asking.erase(step);
    Wait(flight, step);
    return false;
  }
  flight.asking.erase(step);
  StopWaiting(flight, step);
  flight.leader = step;
  return true;
}

std::vector<SingleFlight::Step> SingleFlight::Overtaken(const std::string& key, size_t limit) {
  std::vector<Step> out;
  const auto found = flights_.find(key);
  if (found == flights_.end() || !found->second.leader.has_value()) return out;
  Flight& flight = found->second;
  while (!flight.asking.empty() && out.size() < limit) {
    const Step step = *flight.asking.begin();
    flight.asking.erase(flight.asking.begin());
    Wait(flight, step);
    out.push_back(step);
  }
  return out;
}

std::vector<SingleFlight::Step> SingleFlight::End(const std::string& key, Step leader, bool landed) {
  std::vector<Step> out;
  const auto found = flights_.find(key);
  if (found == flights_.end() || !found->second.leader.has_value() || !(*found->second.leader == leader)) return out;
  Flight& flight = found->second;
  flight.leader.reset();
  if (landed) {
    for (const auto& [number, step] : flight.waiting) out.push_back(step);
    flight.waiting.clear();
    flight.place.clear();
  } else if (flight.asking.empty() && !ORCH_PLANTED("strand_waiters")) {
    if (const auto next = Promote(flight)) out.push_back(*next);
  }
  Forget(key);
  return out;
}

std::optional<SingleFlight::Step> SingleFlight::Leave(const std::string& key, Step step) {
  const auto found = flights_.find(key);
  if (found == flights_.end()) return std::nullopt;
  Flight& flight = found->second;
  std::optional<Step> next;
  if (!StopWaiting(flight, step) && flight.asking.erase(step) > 0 && flight.asking.empty() &&
      !flight.leader.has_value()) {
    next = Promote(flight);
  }
  Forget(key);
  return next;
}

std::optional<SingleFlight::Step> SingleFlight::LeaderOf(const std::string& key) const {
  const auto found = flights_.find(key);
  return found == flights_.end() ? std::nullopt : found->second.leader;
}

bool SingleFlight::Waits(const std::string& key, Step step) const {
  const auto found = flights_.find(key);
  return found != flights_.end() && found->second.place.count(step) > 0;
}

std::string SingleFlight::Check() const {
  for (const auto& [key, flight] : flights_) {
    if (!flight.waiting.empty() && !flight.leader.has_value() && flight.asking.empty()) return "nobody to wait for";
    if (flight.waiting.size() != flight.place.size()) return "a waiter stands in two places";
    for (const auto& [step, place] : flight.place) {
      if (flight.asking.count(step) > 0) return "a step asks and waits";
    }
  }
  return "";
}

void SingleFlight::Wait(Flight& flight, Step step) {
  if (!flight.place.emplace(step, next_).second) return;
  flight.waiting.emplace(next_++, step);
}

bool SingleFlight::StopWaiting(Flight& flight, Step step) {
  const auto place = flight.place.find(step);
  if (place == flight.place.end()) return false;
  flight.waiting.erase(place->second);
  flight.place.erase(place);
  return true;
}

std::optional<SingleFlight::Step> SingleFlight::Promote(Flight& flight) {
  if (flight.waiting.empty()) return std::nullopt;
  const Step step = flight.waiting.begin()->second;
  flight.waiting.erase(flight.waiting.begin());
  flight.place.erase(step);
  flight.asking.insert(step);
  return step;
}

void SingleFlight::Forget(const std::string& key) {
  const auto found = flights_.find(key);
  if (found == flights_.end()) return;
  const Flight& flight = found->second;
  if (!flight.leader.has_value() && flight.asking.empty() && flight.waiting.empty()) flights_.erase(found);
}

}  // namespace orch
