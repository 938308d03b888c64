#include "server/rpc/run_names.h"

#include <utility>

#include "server/rpc/convert_rows.h"

namespace orch::rpc {

absl::StatusOr<std::shared_ptr<const RunNames::Entry>> RunNames::Get(RunKey key, int64_t ix) {
  {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      const Graph& graph = *found->second->graph;
      if (ix < int64_t{graph.step_count()} || !graph.fans_out_at_run_time()) return found->second;
    }
  }
  auto entry = std::make_shared<Entry>();
  ASSIGN_OR_RETURN(store::RunRecord record, engine_->queries().GetRun(key));
  entry->header = std::move(record.header);
  ASSIGN_OR_RETURN(entry->graph, engine_->LoadGraph(entry->header));
  MutexLock lock(&mutex_);
  if (entries_.size() >= kMaxEntries) entries_.clear();  // rare, and one read each to fill again
  entries_[key] = entry;
  return std::shared_ptr<const Entry>(std::move(entry));
}

v1::Event RunNames::Describe(const EventRow& row) {
  const auto entry = Get(row.run, row.ix);
  if (!entry.ok()) return ToEvent(row, nullptr, "");
  std::string step;
  const Graph& graph = *(*entry)->graph;
  if (row.ix >= 0 && row.ix < int64_t{graph.step_count()}) step = graph.StepName(static_cast<StepIx>(row.ix));
  return ToEvent(row, &(*entry)->header, std::move(step));
}

}  // namespace orch::rpc
