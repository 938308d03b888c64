#include "tests/core/store_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace orch::testing {

void StoreModel::Commit(const Batch& batch) {
  const auto broken = [&](auto... parts) { faults_.push_back(absl::StrCat(parts...)); };
  for (const RunHeader& header : batch.new_runs) {
    if (!headers_.emplace(header.key, header).second) broken("run ", header.key, " inserted twice");
  }
  for (const RunRow& row : batch.runs) {
    if (headers_.count(row.key) == 0) broken("run row ", row.key, " without a header");
    const auto [it, fresh] = runs_.try_emplace(row.key, row);
    if (fresh) continue;
    if (IsTerminal(it->second.state)) broken("run ", row.key, " changed after its end");
    if (row.version <= it->second.version)
      broken("run ", row.key, " version went from ", it->second.version, " to ", row.version);
    if (row.last_sequence < it->second.last_sequence) broken("run ", row.key, " sequence went back");
    it->second = row;
  }
  for (const StepRow& row : batch.steps) {
    const auto [it, fresh] = steps_.try_emplace({row.run, row.ix}, row);
    if (fresh) continue;
    if (IsTerminal(it->second.state)) broken("step ", row.name, " of run ", row.run, " changed after its end");
    if (row.attempt < it->second.attempt) broken("step ", row.name, " counts attempts backwards");
    it->second = row;
  }
  for (const AttemptRow& row : batch.attempts) {
    const auto [it, fresh] = attempts_.try_emplace({row.run, row.ix, row.number}, row);
    if (fresh) continue;
    if (IsTerminal(it->second.state))
      broken("attempt ", row.run, "/", row.ix, "/", row.number, " changed after its end");
    if (it->second.key != row.key) broken("attempt ", row.run, "/", row.ix, "/", row.number, " changed its key");
    it->second = row;
  }
  for (const ArtifactRow& row : batch.artifacts) {
    if (!artifacts_.empty() && row.id <= artifacts_.back().id) broken("artifact ids do not grow: ", row.id);
    artifacts_.push_back(row);
  }
  for (const CacheEntryRow& row : batch.cache_entries) {
    if (std::count(row.artifacts.begin(), row.artifacts.end(), 0) > 0) broken("cache entry with a missing artifact");
    cache_.push_back(row);
  }
  for (const EventRow& row : batch.events) {
    const int64_t last = events_.empty() ? 0 : events_.back().sequence;
    if (row.sequence != last + 1) broken("event ", row.sequence, " after ", last);
    events_.push_back(row);
  }
}

std::vector<StoredRun> StoreModel::Open() const {
  std::vector<StoredRun> out;
  for (const auto& [key, row] : runs_) {
    if (IsTerminal(row.state)) continue;
    StoredRun run;
    run.header = headers_.at(key);
    run.row = row;
    run.graph = GraphOf(key);
    for (auto it = steps_.lower_bound({key, 0}); it != steps_.end() && it->first.first == key; ++it) {
      run.steps.push_back(it->second);
    }
    for (auto it = attempts_.lower_bound({key, 0, 0}); it != attempts_.end() && std::get<0>(it->first) == key; ++it) {
      run.attempts.push_back(it->second);
    }
    for (const ArtifactRow& artifact : artifacts_) {
      if (artifact.run == key) run.artifacts.push_back(artifact);
    }
    out.push_back(std::move(run));
  }
  return out;
}

CorePolicy StoreModel::Continue(CorePolicy policy) const {
  policy.first_sequence = (events_.empty() ? 0 : events_.back().sequence) + 1;
  policy.first_run_key = (headers_.empty() ? 0 : headers_.rbegin()->first) + 1;
  policy.first_artifact_id = (artifacts_.empty() ? 0 : artifacts_.back().id) + 1;
  return policy;
}

const RunRow* StoreModel::FindRun(RunKey key) const {
  const auto found = runs_.find(key);
  return found == runs_.end() ? nullptr : &found->second;
}

const StepRow* StoreModel::FindStep(RunKey key, StepIx ix) const {
  const auto found = steps_.find({key, ix});
  return found == steps_.end() ? nullptr : &found->second;
}

const AttemptRow* StoreModel::FindAttempt(RunKey key, StepIx ix, uint32_t number) const {
  const auto found = attempts_.find({key, ix, number});
  return found == attempts_.end() ? nullptr : &found->second;
}

}  // namespace orch::testing
