// Names of runs and steps by their numbers, for events, which carry only numbers. Any thread; a bounded cache.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "orch/v1/event.pb.h"
#include "server/base/mutex.h"
#include "server/engine/engine.h"

namespace orch::rpc {

class RunNames {
 public:
  explicit RunNames(Engine* engine) : engine_(engine) {}

  struct Entry {
    RunHeader header;
    std::shared_ptr<const Graph> graph;
  };
  // May read the database. NOT_FOUND if the run is gone.
  absl::StatusOr<std::shared_ptr<const RunHeader>> Header(RunKey key);
  // May read the database. NOT_FOUND if the run is gone. Its graph has step `ix` if any of the run's has.
  absl::StatusOr<std::shared_ptr<const Entry>> Get(RunKey key, int64_t ix = -1);
  // The event with all its names; without them if its run is gone.
  v1::Event Describe(const EventRow& row);

 private:
  static constexpr size_t kMaxEntries = 4096;
  Engine* engine_;
  Mutex mutex_;
  std::unordered_map<RunKey, std::shared_ptr<const Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<RunKey, std::shared_ptr<const RunHeader>> headers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::rpc
