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

absl::StatusOr<std::shared_ptr<const RunHeader>> RunNames::Header(RunKey key) {
  {
    MutexLock lock(&mutex_);
    if (const auto found = headers_.find(key); found != headers_.end()) return found->second;
  }
  ASSIGN_OR_RETURN(store::RunRecord record, engine_->queries().GetRun(key));
  auto header = std::make_shared<const RunHeader>(std::move(record.header));
  MutexLock lock(&mutex_);
  if (headers_.size() >= kMaxEntries) headers_.clear();
  headers_.emplace(key, header);
  return header;
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
