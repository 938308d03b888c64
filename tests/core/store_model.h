// What the database would hold: takes batches, checks what must hold between any two of them, and gives runs back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/core/dispatcher.h"

namespace orch::testing {

class StoreModel {
 public:
  // What it holds of one run.
  struct Run {
    RunHeader header;
    RunRow row;
    std::shared_ptr<const Graph> graph;
    std::shared_ptr<const Graph> pipeline;           // as compiled
    std::vector<FanoutRow> fanouts;                  // since its steps have their numbers
    std::vector<StepRow> steps;                      // by number; WAITING: it has no row
    std::vector<std::vector<AttemptRow>> attempts;   // by step, oldest first
    std::vector<size_t> artifacts;                   // places in StoreModel::artifacts
    std::vector<uint32_t> ended;                     // by template: instances that have ended
    std::vector<uint32_t> ok;                        // by template: instances that are SUCCEEDED or CACHED
    std::vector<std::pair<uint8_t, uint32_t>> told;  // by step: state and attempt as the events say
    RunState told_state = RunState::kPending;
    RunKey reopened = 0;  // its own key while a retry of it is committed
  };

  // Remembers how the run of a later batch was compiled.
  void AddGraph(const std::string& run_id, std::shared_ptr<const Graph> graph) { graphs_[run_id] = std::move(graph); }
  // And how a pipeline was compiled that a run is retried with.
  void AddPipeline(int64_t id, std::shared_ptr<const Graph> graph) { pipelines_[id] = std::move(graph); }
  // Retention takes what has landed of a step of a run that has ended.
  void Prune(RunKey run, StepIx ix);
  // One transaction. What is broken is appended to `faults`. Steps and attempts are moved out of the batch.
  void Commit(Batch* batch);

  // Every run that has not ended, as Restore wants it.
  std::vector<StoredRun> Open() const;
  // Hooks that have not ended, in the order in which they were made.
  std::vector<HookRow> OpenHooks() const;
  const std::map<std::string, HookRow>& hooks() const { return hooks_; }  // by id
  bool HasHooks(RunKey run) const;
  // nullptr if it was never stored.
  const HookRow* FindHook(const std::string& id) const;
  // One run, open or not.
  StoredRun Load(const Run& run) const;
  // The machine begins anew: monotonic times of what is open are made again from the wall clock, as the store does.
  void Reboot(Now now);
  // What the next dispatcher starts with.
  CorePolicy Continue(CorePolicy policy) const;

  const Run* Find(RunKey key) const;
  const RunRow* FindRun(RunKey key) const;
  const StepRow* FindStep(RunKey key, StepIx ix) const;
  const AttemptRow* FindAttempt(RunKey key, StepIx ix, uint32_t number) const;
  // nullptr if the run was never stored.
  const Run* FindById(const std::string& id) const;
  // The answer that was given to a request; nullptr: it is not known.
  const std::string* FindRequest(const std::string& id) const;
  const std::map<RunKey, Run>& runs() const { return runs_; }
  bool WasDeleted(RunKey key) const { return deleted_.count(key) > 0; }
  const std::vector<EventRow>& events() const { return events_; }
  const std::vector<ArtifactRow>& artifacts() const { return artifacts_; }
  // nullptr if it has not landed.
  const ArtifactRow* FindArtifact(ArtifactId id) const;
  const std::vector<CacheEntryRow>& cache() const { return cache_; }
  const std::vector<std::string>& faults() const { return faults_; }
  // The tables say what the events say; only defined once every run has ended. Empty: they do.
  std::string CompareWithEvents() const;

 private:
  template <typename... Parts>
  void Broken(const Parts&... parts);
  Run* Writable(RunKey key);
  void GoOnWith(const RunHeader& header, const Batch& batch, Run* run);
  void Resize(Run* run);
  void Remove(const DeletedRunRow& row);
  void Put(StepRow row);
  void Put(AttemptRow row);
  void Put(HookRow row);
  void Tell(const EventRow& event);

  std::map<std::string, std::shared_ptr<const Graph>> graphs_;
  std::map<int64_t, std::shared_ptr<const Graph>> pipelines_;
  std::map<RunKey, Run> runs_;
  std::set<RunKey> deleted_;
  RunKey last_key_ = 0;
  Run* latest_ = nullptr;  // what the last row was of
  std::unordered_map<std::string, RunKey> by_id_;
  std::unordered_map<std::string, std::string> requests_;
  std::vector<ArtifactRow> artifacts_;  // ids grow
  std::vector<CacheEntryRow> cache_;
  std::map<std::string, HookRow> hooks_;
  std::vector<std::string> hook_order_;
  std::vector<EventRow> events_;
  std::vector<std::string> faults_;
};

}  // namespace orch::testing
