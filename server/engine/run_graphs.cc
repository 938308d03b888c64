#include "server/engine/run_graphs.h"

#include <utility>

#include "server/core/fanout.h"

namespace orch {

absl::StatusOr<std::shared_ptr<const Graph>> RunGraphs::Load(const RunHeader& run) {
  ASSIGN_OR_RETURN(const auto pipeline, catalog_->Load(run.pipeline_id));
  if (!pipeline->graph->fans_out_at_run_time()) return pipeline->graph;
  Known known{pipeline->graph, 0, run.pipeline_id};
  {
    MutexLock lock(&mutex_);
    const auto found = known_.find(run.key);
    if (found != known_.end() && found->second.pipeline_id == run.pipeline_id) known = found->second;
  }
  ASSIGN_OR_RETURN(const std::vector<FanoutRow> rows, queries_->ListFanouts(run.key, known.fanouts));
  if (rows.empty()) return known.graph;
  ASSIGN_OR_RETURN(known.graph, WithFanouts(std::move(known.graph), rows));
  known.fanouts += static_cast<int>(rows.size());
  std::shared_ptr<const Graph> graph = known.graph;
  MutexLock lock(&mutex_);
  if (known_.size() >= kMaxKnown) known_.clear();
  Known& kept = known_[run.key];
  if (kept.fanouts < known.fanouts || kept.pipeline_id != known.pipeline_id) kept = std::move(known);
  return graph;
}

}  // namespace orch
