// The graphs of runs, for readers. A run that fans out at run time has one of its own, which grows.
//
// Any thread.
#pragma once

#include <memory>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/engine/catalog.h"
#include "server/model/graph.h"
#include "server/store/queries.h"

namespace orch {

class RunGraphs {
 public:
  // Both outlive it.
  RunGraphs(Catalog* catalog, store::Queries* queries) : catalog_(catalog), queries_(queries) {}

  // As of what is committed now. Reads the database: only what is new of a run seen before.
  absl::StatusOr<std::shared_ptr<const Graph>> Load(const RunHeader& run);

 private:
  struct Known {
    std::shared_ptr<const Graph> graph;
    int64_t fanouts = 0;      // the number of the last that it has
    int64_t pipeline_id = 0;  // a retry may have changed it, and the numbers of the steps
    int numbering = 0;
    bool IsOf(const RunHeader& run) const { return pipeline_id == run.pipeline_id && numbering == run.numbering; }
  };
  static constexpr size_t kMaxKnown = 64;

  Catalog* const catalog_;
  store::Queries* const queries_;
  Mutex mutex_;
  std::unordered_map<RunKey, Known> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
