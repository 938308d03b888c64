#include "server/engine/run_graphs.h"

#include <string>
#include <utility>
#include <vector>

#include "server/core/numbering.h"

namespace orch {

absl::StatusOr<std::shared_ptr<const Graph>> RunGraphs::Load(const RunHeader& run) {
  ASSIGN_OR_RETURN(const auto pipeline, catalog_->Load(run.pipeline_id));
  if (run.numbering == 0 && !pipeline->graph->fans_out_at_run_time()) return pipeline->graph;
  Known known{nullptr, 0, run.pipeline_id, run.numbering};
  {
    MutexLock lock(&mutex_);
    const auto found = known_.find(run.key);
    if (found != known_.end() && found->second.IsOf(run)) known = found->second;
  }
  std::string numbering;
  if (known.graph == nullptr) {
    known.graph = pipeline->graph;
    if (run.numbering > 0) {
      ASSIGN_OR_RETURN(numbering, queries_->GetNumbering(run.key, run.numbering));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<FanoutRow> rows, queries_->ListFanouts(run.key, run.numbering, known.fanouts));
  if (rows.empty() && numbering.empty()) return known.graph;
  ASSIGN_OR_RETURN(known.graph, StoredGraph(std::move(known.graph), numbering, rows));
  if (!rows.empty()) known.fanouts = rows.back().number;
  std::shared_ptr<const Graph> graph = known.graph;
  MutexLock lock(&mutex_);
  if (known_.size() >= kMaxKnown) known_.clear();
  Known& kept = known_[run.key];
  if (kept.fanouts <= known.fanouts || !kept.IsOf(run)) kept = std::move(known);
  return graph;
}

}  // namespace orch
