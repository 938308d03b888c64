// How long the steps of a pipeline took in its last runs.
//
// Any thread. What was read of a pipeline is kept until a newer run of it has succeeded.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/store/queries.h"

namespace orch {

class StepHistory {
 public:
  struct Of {
    int runs = 0;  // looked at
    RunKey newest = 0;
    std::unordered_map<std::string, std::pair<int64_t, int>> steps;  // name → median in microseconds, samples
  };

  explicit StepHistory(store::Queries* queries) : queries_(queries) {}
  absl::StatusOr<std::shared_ptr<const Of>> Read(const std::string& project, const std::string& pipeline);

 private:
  store::Queries* const queries_;
  Mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const Of>> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
