#include "tests/core/store_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/fanout.h"
#include "server/core/numbering.h"

namespace orch::testing {

namespace {

// Of those that take part.
void Count(StoreModel::Run& run, StepIx ix, int by) {
  const uint32_t t = run.graph->TemplateOf(ix);
  const StepTemplate& step = run.graph->step(t);
  if (!IsTerminal(run.steps[ix].state) || (step.group != ix && !step.Has(ix))) return;
  run.ended[t] += static_cast<uint32_t>(by);
  if (IsOk(run.steps[ix].state)) run.ok[t] += static_cast<uint32_t>(by);
}

}  // namespace

template <typename... Parts>
void StoreModel::Broken(const Parts&... parts) {
  faults_.push_back(absl::StrCat(parts...));
}

StoreModel::Run* StoreModel::Writable(RunKey key) {
  if (latest_ != nullptr && latest_->header.key == key) return latest_;
  const auto found = runs_.find(key);
  if (found == runs_.end()) {
    Broken("a row of run ", key, ", which has no header");
    return nullptr;
  }
  return latest_ = &found->second;
}

void StoreModel::Resize(Run* run) {
  const Graph& graph = *run->graph;
  run->steps.resize(graph.step_count());
  run->attempts.resize(graph.step_count());
  run->told.resize(graph.step_count());
  run->ended.assign(graph.templates().size(), 0);
  run->ok.assign(graph.templates().size(), 0);
  for (StepIx ix = 0; ix < run->steps.size(); ++ix) Count(*run, ix, 1);
}

// The steps of a retried run may have other numbers, and its pipeline be another.
void StoreModel::GoOnWith(const RunHeader& header, const Batch& batch, Run* run) {
  std::string numbers;
  for (const NumberingRow& row : batch.numberings) {
    if (row.run == header.key) numbers = row.numbers;
  }
  if (numbers.empty() != (header.numbering == run->header.numbering)) {
    Broken("run ", header.key, " has no numbers of generation ", header.numbering);
  }
  if (header.pipeline_id == run->header.pipeline_id) return;
  run->pipeline = pipelines_.at(header.pipeline_id);
  if (!numbers.empty()) run->fanouts.clear();
  auto graph = StoredGraph(run->pipeline, numbers, run->fanouts);
  if (!graph.ok()) return Broken("run ", header.key, ": ", graph.status().message());
  for (StepIx ix = 0; ix < run->steps.size(); ++ix) {
    if ((*graph)->StepName(ix) != run->graph->StepName(ix)) {
      Broken("step ", ix, " of run ", header.key, " was ", run->graph->StepName(ix), " and is ",
             (*graph)->StepName(ix));
    }
  }
  run->graph = *std::move(graph);
  Resize(run);
}

void StoreModel::Put(StepRow row) {
  Run* run = Writable(row.run);
  if (run == nullptr) return;
  StepRow& old = run->steps[row.ix];
  if (IsTerminal(old.state) && run->reopened != row.run) {
    Broken("step ", row.name, " of run ", row.run, " changed after its end");
  }
  if (IsTerminal(old.state)) {
    Count(*run, row.ix, -1);
    old.state = StepState::kWaiting;
  }
  if (row.attempt < old.attempt) Broken("step ", row.name, " counts attempts backwards");
  const StepIx ix = row.ix;
  old = std::move(row);
  if (IsTerminal(old.state)) Count(*run, ix, 1);
}

void StoreModel::Put(AttemptRow row) {
  Run* run = Writable(row.run);
  if (run == nullptr) return;
  std::vector<AttemptRow>& attempts = run->attempts[row.ix];
  const auto broken = [&](absl::string_view what) {
    Broken("attempt ", row.run, "/", row.ix, "/", row.number, " ", what);
  };
  if (row.number == attempts.size() + 1) {
    if (!attempts.empty() && !IsTerminal(attempts.back().state)) broken("begins while the one before it is open");
    attempts.push_back(std::move(row));
    return;
  }
  if (row.number == 0 || row.number > attempts.size()) return broken("leaves a gap");
  AttemptRow& old = attempts[row.number - 1];
  if (IsTerminal(old.state)) broken("changed after its end");
  if (old.key != row.key) broken("changed its key");
  old = std::move(row);
}

void StoreModel::Put(HookRow row) {
  Run* run = Writable(row.run);
  if (run == nullptr) return;
  const auto [it, fresh] = hooks_.try_emplace(row.id, row);
  if (fresh) {
    const bool over =
        row.ix < 0 ? IsTerminal(run->row.state) : IsTerminal(run->steps[static_cast<size_t>(row.ix)].state);
    if (!over) Broken("hook ", row.id, " is on record before what it is about has ended");
    hook_order_.push_back(row.id);
    return;
  }
  const HookRow& old = it->second;
  if (IsTerminal(old.state)) Broken("hook ", row.id, " changed after its end");
  if (row.tries < old.tries || row.tries > old.tries + 1) Broken("hook ", row.id, " miscounts its tries");
  if (row.tries == old.tries && row.key != old.key) Broken("hook ", row.id, " changed its key");
  it->second = std::move(row);
}

std::vector<HookRow> StoreModel::OpenHooks() const {
  std::vector<HookRow> out;
  for (const std::string& id : hook_order_) {
    const auto found = hooks_.find(id);
    if (found != hooks_.end() && !IsTerminal(found->second.state)) out.push_back(found->second);
  }
  return out;
}

bool StoreModel::HasHooks(RunKey run) const {
  return std::any_of(hooks_.begin(), hooks_.end(), [run](const auto& entry) { return entry.second.run == run; });
}

const HookRow* StoreModel::FindHook(const std::string& id) const {
  const auto found = hooks_.find(id);
  return found == hooks_.end() ? nullptr : &found->second;
}

void StoreModel::Tell(const EventRow& event) {
  const int64_t last = events_.empty() ? 0 : events_.back().sequence;
  if (event.sequence != last + 1) Broken("event ", event.sequence, " after ", last);
  events_.push_back(event);
  if (event.type == EventType::kRunDeleted) return;  // its row goes with it
  Run* run = Writable(event.run);
  if (run == nullptr) return;
  if (event.type == EventType::kRunStateChanged) {
    if (IsTerminal(run->told_state) && run->reopened != event.run) {
      Broken("an event of run ", event.run, " after its end");
    }
    run->told_state = static_cast<RunState>(event.state);
  } else if (event.type == EventType::kStepStateChanged) {
    auto& [state, attempt] = run->told[static_cast<size_t>(event.ix)];
    const auto to = static_cast<StepState>(event.state);
    if (IsTerminal(static_cast<StepState>(state)) && (run->reopened != event.run || to != StepState::kWaiting)) {
      Broken("an event of step ", event.ix, " after its end");
    }
    const bool stops = run->told_state == RunState::kHalting || run->told_state == RunState::kCancelling;
    if (run->told_state == RunState::kPaused && to == StepState::kSubmitting) {
      Broken("step ", event.ix, " of run ", event.run, " starts while the run is paused");
    }
    if (stops && to == StepState::kSubmitting) {
      Broken("step ", event.ix, " of run ", event.run, " starts while the run stops");
    }
    state = event.state;
    attempt = event.attempt;
  }
}

void StoreModel::Prune(RunKey run, StepIx ix) {
  std::erase_if(runs_.at(run).artifacts, [&](size_t place) { return artifacts_[place].ix == ix; });
}

void StoreModel::Commit(Batch* batch) {
  for (const RunHeader& header : batch->new_runs) {
    const auto [it, fresh] = runs_.try_emplace(header.key);
    if (!fresh) {
      Broken("run ", header.key, " inserted twice");
      continue;
    }
    Run& run = it->second;
    run.header = header;
    run.row.version = 0;
    run.graph = run.pipeline = graphs_.at(header.id);
    Resize(&run);
    if (!by_id_.emplace(header.id, header.key).second) Broken("run id ", header.id, " is given twice");
  }
  for (const RunHeader& header : batch->retried_runs) {
    Run* run = Writable(header.key);
    if (run == nullptr) continue;
    if (run->row.state != RunState::kFailed && run->row.state != RunState::kCancelled) {
      Broken("run ", header.key, " is retried and is ", Name(run->row.state));
    }
    GoOnWith(header, *batch, run);
    run->header = header;
    run->reopened = header.key;
  }
  for (const DeletedRunRow& row : batch->removals.runs) {
    const Run* run = Find(row.key);
    if (run == nullptr || !IsTerminal(run->row.state)) Broken("run ", row.key, " is deleted before its end");
  }
  for (const RunRow& row : batch->runs) {
    Run* run = Writable(row.key);
    if (run == nullptr) continue;
    RunRow& old = run->row;
    if (old.version > 0 && IsTerminal(old.state) && run->reopened != row.key) {
      Broken("run ", row.key, " changed after its end");
    }
    if (row.generation != old.generation + (run->reopened == row.key ? 1 : 0)) {
      Broken("run ", row.key, " is at generation ", row.generation, " after ", old.generation);
    }
    if (row.version <= old.version) Broken("run ", row.key, " went from version ", old.version, " to ", row.version);
    if (row.last_sequence < old.last_sequence) Broken("run ", row.key, " sequence went back");
    old = row;
  }
  for (const FanoutRow& row : batch->fanouts) {
    Run* run = Writable(row.run);
    if (run == nullptr) continue;
    auto graph = WithFanouts(run->graph, {row});
    if (!graph.ok()) {
      Broken("fan-out ", row.step, " of run ", row.run, ": ", graph.status().message());
      continue;
    }
    run->graph = *std::move(graph);
    run->fanouts.push_back(row);
    Resize(run);
  }
  for (StepRow& row : batch->steps) Put(std::move(row));
  for (AttemptRow& row : batch->attempts) Put(std::move(row));
  for (const ArtifactRow& row : batch->artifacts) {
    if (!artifacts_.empty() && row.id <= artifacts_.back().id) Broken("artifact ids do not grow: ", row.id);
    if (Run* run = Writable(row.run)) run->artifacts.push_back(artifacts_.size());
    artifacts_.push_back(row);
  }
  for (const auto& [project, key] : batch->removed_cache_entries) {
    const std::string& gone = key;
    cache_.erase(std::remove_if(cache_.begin(), cache_.end(), [&](const CacheEntryRow& e) { return e.key == gone; }),
                 cache_.end());
  }
  for (const CacheMissRow& row : batch->cache_misses) {
    if (Writable(row.run) == nullptr || row.key.empty()) Broken("a look into the cache of nobody");
  }
  for (const CacheEntryRow& row : batch->cache_entries) {
    if (std::count(row.artifacts.begin(), row.artifacts.end(), 0) > 0) Broken("cache entry with a missing artifact");
    cache_.push_back(row);
  }
  for (const HookRow& row : batch->hooks) Put(row);
  for (const EventRow& row : batch->events) Tell(row);
  for (const RunHeader& header : batch->retried_runs) Writable(header.key)->reopened = 0;
  for (const DeletedRunRow& row : batch->removals.runs) Remove(row);
  for (const RequestRow& row : batch->requests) {
    if (!requests_.emplace(row.request_id, row.answer).second) Broken("request ", row.request_id, " is answered twice");
  }
}

std::vector<StoredRun> StoreModel::Open() const {
  std::vector<StoredRun> out;
  for (const auto& [key, run] : runs_) {
    if (IsTerminal(run.row.state)) continue;
    StoredRun& stored = out.emplace_back();
    stored = Load(run);
  }
  return out;
}

StoredRun StoreModel::Load(const Run& run) const {
  StoredRun stored;
  stored.header = run.header;
  stored.row = run.row;
  stored.graph = run.graph;
  for (const StepRow& step : run.steps) {
    if (step.run != 0) stored.steps.push_back(step);
  }
  for (const auto& attempts : run.attempts) {
    stored.attempts.insert(stored.attempts.end(), attempts.begin(), attempts.end());
  }
  for (const size_t place : run.artifacts) stored.artifacts.push_back(artifacts_[place]);
  return stored;
}

void StoreModel::Remove(const DeletedRunRow& row) {
  const auto found = runs_.find(row.key);
  if (found == runs_.end()) return;
  if (row.last_sequence != found->second.row.last_sequence) {
    Broken("run ", row.key, " is deleted up to event ", row.last_sequence, ", it has ",
           found->second.row.last_sequence);
  }
  by_id_.erase(found->second.header.id);
  last_key_ = std::max(last_key_, row.key);
  runs_.erase(found);
  latest_ = nullptr;
  deleted_.insert(row.key);
  for (auto it = hooks_.begin(); it != hooks_.end();) {
    const bool of_it = it->second.run == row.key;
    if (of_it && !IsTerminal(it->second.state)) Broken("run ", row.key, " is deleted before its hook ", it->first);
    it = of_it ? hooks_.erase(it) : std::next(it);
  }
}

void StoreModel::Reboot(Now now) {
  const auto rebase = [now](int64_t wall) { return wall == 0 ? 0 : std::max<int64_t>(1, wall + now.mono - now.wall); };
  for (auto& [key, run] : runs_) {
    if (IsTerminal(run.row.state)) continue;
    run.row.deadline_mono = rebase(run.row.deadline);
    for (StepRow& step : run.steps) step.retry_at_mono = rebase(step.retry_at);
    for (auto& attempts : run.attempts) {
      for (AttemptRow& attempt : attempts) {
        attempt.created_mono = rebase(attempt.created);
        attempt.started_mono = rebase(attempt.started);
      }
    }
  }
}

CorePolicy StoreModel::Continue(CorePolicy policy) const {
  policy.first_sequence = (events_.empty() ? 0 : events_.back().sequence) + 1;
  policy.first_run_key = std::max(last_key_, runs_.empty() ? 0 : runs_.rbegin()->first) + 1;
  policy.first_artifact_id = (artifacts_.empty() ? 0 : artifacts_.back().id) + 1;
  return policy;
}

const StoreModel::Run* StoreModel::Find(RunKey key) const {
  const auto found = runs_.find(key);
  return found == runs_.end() ? nullptr : &found->second;
}

const RunRow* StoreModel::FindRun(RunKey key) const {
  const Run* run = Find(key);
  return run == nullptr ? nullptr : &run->row;
}

const StepRow* StoreModel::FindStep(RunKey key, StepIx ix) const {
  const Run* run = Find(key);
  if (run == nullptr || ix >= run->steps.size() || run->steps[ix].name.empty()) return nullptr;
  return &run->steps[ix];
}

const AttemptRow* StoreModel::FindAttempt(RunKey key, StepIx ix, uint32_t number) const {
  const Run* run = Find(key);
  if (run == nullptr || ix >= run->attempts.size() || number == 0 || number > run->attempts[ix].size()) return nullptr;
  return &run->attempts[ix][number - 1];
}

const StoreModel::Run* StoreModel::FindById(const std::string& id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : Find(found->second);
}

const std::string* StoreModel::FindRequest(const std::string& id) const {
  const auto found = requests_.find(id);
  return found == requests_.end() ? nullptr : &found->second;
}

const ArtifactRow* StoreModel::FindArtifact(ArtifactId id) const {
  const auto found = std::lower_bound(artifacts_.begin(), artifacts_.end(), id,
                                      [](const ArtifactRow& row, ArtifactId wanted) { return row.id < wanted; });
  return found == artifacts_.end() || found->id != id ? nullptr : &*found;
}

std::string StoreModel::CompareWithEvents() const {
  for (const auto& [key, run] : runs_) {
    if (run.told_state != run.row.state)
      return absl::StrCat("run ", key, " is ", Name(run.row.state), ", its events end with ", Name(run.told_state));
    for (StepIx ix = 0; ix < run.steps.size(); ++ix) {
      const auto& [state, attempt] = run.told[ix];
      if (state == static_cast<uint8_t>(run.steps[ix].state) && attempt == run.steps[ix].attempt) continue;
      return absl::StrCat("step ", ix, " of run ", key, " is ", Name(run.steps[ix].state), " at attempt ",
                          run.steps[ix].attempt, ", its events end with ", Name(static_cast<StepState>(state)),
                          " at attempt ", attempt);
    }
  }
  return "";
}

}  // namespace orch::testing
