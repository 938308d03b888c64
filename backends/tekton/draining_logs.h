// Logs that are still on their way when the daemon knows already that their attempts have ended, as launchers tell it
// before their platform does: whoever reads one now waits until all of it is there.
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "backends/api/backend.h"
#include "server/base/mutex.h"

namespace orch::tekton {

// Any thread.
class DrainingLogs {
 public:
  void Begin(const std::string& prefix) {
    MutexLock lock(&mutex_);
    draining_.insert(prefix);
  }
  void End(const std::string& prefix) {
    MutexLock lock(&mutex_);
    if (draining_.erase(prefix) > 0) changed_.NotifyAll();
  }
  void Await(const std::string& prefix) {
    constexpr int kWaits = 30;
    MutexLock lock(&mutex_);
    for (int i = 0; i < kWaits && draining_.count(prefix) > 0; ++i) changed_.WaitFor(&mutex_, std::chrono::seconds(1));
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> draining_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::tekton
