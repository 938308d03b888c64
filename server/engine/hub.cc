#include "server/engine/hub.h"

#include <algorithm>
#include <utility>

#include "server/base/check.h"

namespace orch {
namespace {

bool IsOfRunItself(const EventRow& event) { return event.ix < 0; }

}  // namespace

Hub::Hub(int64_t last_sequence, size_t ring_capacity)
    : capacity_(ring_capacity), first_(last_sequence + 1), last_(last_sequence) {
  ring_.resize(capacity_);
}

void Hub::Publish(const std::vector<EventRow>& events) {
  if (events.empty()) return;
  std::vector<std::function<void()>> wake;
  {
    MutexLock lock(&mutex_);
    // Each run that has events here; true: also one of the run itself.
    std::vector<std::pair<RunKey, bool>> runs;
    bool any_of_run = false;
    for (const EventRow& event : events) {
      CHECK(event.sequence == last_ + 1);
      ring_[static_cast<size_t>(event.sequence) % capacity_] = std::make_shared<const EventRow>(event);
      last_ = event.sequence;
      first_ = std::max(first_, last_ - static_cast<int64_t>(capacity_) + 1);
      if (runs.empty() || runs.back().first != event.run) runs.emplace_back(event.run, false);
      if (IsOfRunItself(event)) runs.back().second = any_of_run = true;
    }
    std::sort(runs.begin(), runs.end());
    runs.emplace_back(0, any_of_run);         // those who watch everything
    for (const auto& [run, of_run] : runs) {  // a run that comes twice is looked at twice, which does no harm
      const auto found = by_run_.find(run);
      if (found == by_run_.end()) continue;
      std::vector<uint64_t> left;
      for (const uint64_t id : found->second) {
        const auto waiter = waiters_.find(id);
        if (waiter == waiters_.end()) continue;
        if (waiter->second.scope == Scope::kRunsOnly && !of_run) {
          left.push_back(id);
          continue;
        }
        wake.push_back(std::move(waiter->second.wake));
        waiters_.erase(waiter);
      }
      if (left.empty()) {
        by_run_.erase(found);
      } else {
        found->second = std::move(left);
      }
    }
    for (const auto& call : wake) call();  // under the lock, so that Forget means what it says
  }
}

Hub::Page Hub::Read(RunKey run, int64_t after, int limit) const {
  Page page;
  MutexLock lock(&mutex_);
  page.after = after;
  if (after + 1 < first_) {
    page.behind = true;
    return page;
  }
  for (int64_t seq = after + 1; seq <= last_; ++seq) {
    const auto& event = ring_[static_cast<size_t>(seq) % capacity_];
    if (run == 0 || event->run == run) {
      if (static_cast<int>(page.events.size()) == limit) return page;
      page.events.push_back(event);
    }
    page.after = seq;
  }
  return page;
}

uint64_t Hub::WakeAfter(RunKey run, int64_t after, std::function<void()> wake, Scope scope) {
  bool now = false;
  uint64_t id = 0;
  {
    MutexLock lock(&mutex_);
    id = next_id_++;
    now = closed_ || after + 1 < first_;
    for (int64_t seq = after + 1; !now && seq <= last_; ++seq) {
      const EventRow& event = *ring_[static_cast<size_t>(seq) % capacity_];
      now = (run == 0 || event.run == run) && (scope == Scope::kEverything || IsOfRunItself(event));
    }
    if (!now) {
      waiters_.emplace(id, Waiter{run, scope, std::move(wake)});
      by_run_[run].push_back(id);
      return id;
    }
  }
  wake();
  return id;
}

void Hub::Forget(uint64_t id) {
  MutexLock lock(&mutex_);
  const auto found = waiters_.find(id);
  if (found == waiters_.end()) return;
  std::vector<uint64_t>& list = by_run_[found->second.run];
  list.erase(std::remove(list.begin(), list.end(), id), list.end());
  if (list.empty()) by_run_.erase(found->second.run);
  waiters_.erase(found);
}

int64_t Hub::last_sequence() const {
  MutexLock lock(&mutex_);
  return last_;
}

void Hub::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  for (auto& [id, waiter] : waiters_) waiter.wake();
  waiters_.clear();
  by_run_.clear();
}

bool Hub::closed() const {
  MutexLock lock(&mutex_);
  return closed_;
}

}  // namespace orch
