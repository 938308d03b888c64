// What the database would hold: takes batches, checks what must hold between any two of them, and gives runs back.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/core/dispatcher.h"

namespace orch::testing {

class StoreModel {
 public:
  // Remembers how the run of a later batch was compiled.
  void AddGraph(const std::string& run_id, std::shared_ptr<const Graph> graph) { graphs_[run_id] = std::move(graph); }
  // One transaction. What is broken is appended to `faults`.
  void Commit(const Batch& batch);

  // Every run that has not ended, as Restore wants it.
  std::vector<StoredRun> Open() const;
  // What the next dispatcher starts with.
  CorePolicy Continue(CorePolicy policy) const;

  const RunRow* FindRun(RunKey key) const;
  const StepRow* FindStep(RunKey key, StepIx ix) const;
  const AttemptRow* FindAttempt(RunKey key, StepIx ix, uint32_t number) const;
  std::shared_ptr<const Graph> GraphOf(RunKey key) const { return graphs_.at(headers_.at(key).id); }
  const std::map<RunKey, RunHeader>& headers() const { return headers_; }
  const std::vector<EventRow>& events() const { return events_; }
  const std::vector<ArtifactRow>& artifacts() const { return artifacts_; }
  const std::vector<CacheEntryRow>& cache() const { return cache_; }
  const std::vector<std::string>& faults() const { return faults_; }
  const std::map<std::tuple<RunKey, StepIx, uint32_t>, AttemptRow>& attempts() const { return attempts_; }

 private:
  std::map<std::string, std::shared_ptr<const Graph>> graphs_;
  std::map<RunKey, RunHeader> headers_;
  std::map<RunKey, RunRow> runs_;
  std::map<std::pair<RunKey, StepIx>, StepRow> steps_;
  std::map<std::tuple<RunKey, StepIx, uint32_t>, AttemptRow> attempts_;
  std::vector<ArtifactRow> artifacts_;
  std::vector<CacheEntryRow> cache_;
  std::vector<EventRow> events_;
  std::vector<std::string> faults_;
};

}  // namespace orch::testing
