// The dispatcher decides: events in, rows and intents out. It has no threads, no clock, no I/O and no randomness; the
// same events at the same times give the same decisions.
//
// Two speeds: Apply updates facts, at most O(out-degree) each; Tick fires what is due, works off longer cascades in
// slices, and makes one pass over the steps that are ready. A burst of 500 ends costs one pass.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/core/admission.h"
#include "server/core/cache_changes.h"
#include "server/core/compile.h"
#include "server/core/explain.h"
#include "server/core/hooks.h"
#include "server/core/messages.h"
#include "server/core/pools.h"
#include "server/core/ready_queue.h"
#include "server/core/run_state.h"
#include "server/core/single_flight.h"
#include "server/model/transitions.h"

namespace orch {

struct CorePolicy {
  std::string instance;  // part of every attempt's key
  int64_t first_sequence = 1;
  RunKey first_run_key = 1;
  ArtifactId first_artifact_id = 1;
  int64_t grace_micros = 10'000'000;  // between a graceful and a forced stop
  int64_t reserve_after_micros = 30'000'000;
  int64_t ready_shown_after_micros = 50'000;  // a READY that lasts shorter is not written
  CompileLimits limits;                       // of what a run may grow to
  int slice = 2'000;                          // steps per Tick in cascades
  int grants = 1'000;                         // starts per Tick
  BreakerPolicy breaker;
  HookPolicy hooks;
  int64_t live_runs = INT64_MAX;  // at most
};

// RESOURCE_EXHAUSTED (TOO_MANY_RUNS) if `live` runs are as many as may be.
absl::Status CheckRoomForRun(int64_t live, int64_t most);

class Dispatcher {
 public:
  explicit Dispatcher(CorePolicy policy);

  // Before the first event; times on the monotonic clock must be of this boot.
  void Restore(StoredRun run, Now now);
  void RestoreHook(HookRow row, Now now) { hooks_.Restore(std::move(row), now); }
  std::vector<HookRow> RunningHooks() const { return hooks_.Running(); }
  // The attempts that Restore found live, for the backends to adopt.
  std::vector<std::pair<AttemptRow, std::string>> LiveAttempts() const;  // with the step's name

  // Total: every event in every state is defined. An error means that the event was refused and changed nothing
  // (NOT_FOUND, FAILED_PRECONDITION); late events are dropped and counted.
  absl::Status Apply(Event event, Now now);
  void Tick(Now now);
  // When Tick has something to do without an event; INT64_MAX: never.
  int64_t NextDeadline() const;
  // Everything decided since the last call, each changed row once.
  Decisions Take();
  // Those of the intents that need not wait for the commit; Take does not give them again.
  std::vector<Intent> TakeAtOnce();
  // How long what has been decided may wait for its commit. kPatient: starts and releases alone, and their platforms
  // have at least half of what they had to do at the last Take. kNow: other intents, idle platforms, the end of a run.
  enum class Urgency : uint8_t { kNone, kPatient, kNow };
  Urgency urgency() const;
  // True if something has been decided that Take would give; a Tick may decide without an event.
  bool HasDecided() const {
    return !dirty_runs_.empty() || !dirty_steps_.empty() || !dirty_attempts_.empty() || !out_.batch.removals.empty() ||
           hooks_.HasDecided();
  }

  // The key of the run that the last RunSubmitted made.
  RunKey last_run_key() const { return next_run_key_ - 1; }
  ArtifactId last_artifact_id() const { return next_artifact_id_ - 1; }
  bool Knows(RunKey run) const { return runs_.count(run) > 0; }
  const RunInMemory* Find(RunKey run) const;
  size_t live_runs() const { return runs_.size(); }
  int64_t live_attempts() const { return live_attempts_; }
  const HookQueue& hooks() const { return hooks_; }
  size_t ready_steps() const { return ready_.size(); }
  // Timers that are set, also for what has ended; and steps that are woken when an artifact lands. For tests.
  size_t timers() const { return timers_.size(); }
  size_t awaiting_artifacts() const;
  int64_t late_events() const { return late_events_; }
  // Of the cache's entries as decided; see CacheChanges.
  uint64_t cache_version() const { return cache_changes_.version(); }
  int64_t last_sequence() const { return next_sequence_ - 1; }
  // Slots in use by pool, as `ORCHESTRATOR/cpu`, `pool/NAME`, `run/KEY`.
  std::map<std::string, int64_t> PoolUse() const;
  // Why a step, or a run, that has not ended is where it is; nullopt: the run has ended. In time that does not grow
  // with what waits, but for one look at each step of the run.
  std::optional<Explained> Explain(RunKey run, StepIx ix) const;
  std::optional<Explained> Explain(RunKey run) const;
  // nullopt: it has never been heard of.
  std::optional<OrchestratorHealth> HealthOf(const std::string& name) const;
  // True if a run that has not ended names it, or a step of one does.
  bool UsesOrchestrator(const std::string& name) const;
  bool UsesPool(const std::string& name) const;
  // The run and step that have not ended and need the secret; empty: none.
  std::string UserOfSecret(const std::string& project, const std::string& name) const;

  // Walks all cross-references; for tests, simulation, and once at start.
  absl::Status CheckInvariants() const;

 private:
  struct OrchestratorState {
    std::string name;
    bool present = false;
    bool healthy = true;
    std::string why_not;         // healthy
    int64_t unhealthy_wall = 0;  // since when
    Breaker breaker;
    Rate rate;
    int64_t wake_at = 0;                                  // the timer that looks at it next; 0: none
    int64_t probe_until = 0;                              // while it is being asked
    std::tuple<RunKey, StepIx, uint32_t> trial;           // while one is tried
    std::set<std::tuple<RunKey, StepIx, uint32_t>> held;  // attempts to be submitted again as soon as it may
    std::vector<PoolId> limited;
    int64_t busy = 0;         // attempts that hold slots
    int64_t fresh = 0;        // of them, those that Take has not given away
    int64_t busy_before = 0;  // when Take gave the last ones away
  };
  // Work that is done in slices: cells [next, end) of a run.
  struct Sweep {
    enum class Kind : uint8_t { kOpenRoots, kCloseEdge, kStopRest, kHoldBack, kOfferAgain } kind;
    RunKey run;
    StepIx next;
    StepIx end;
    uint8_t seen;  // kCloseEdge: what the upstream brought
  };
  struct Timer {
    enum class Kind : uint8_t { kQueue, kRun, kRetry, kStop, kResubmit, kDeadline, kHeartbeat, kOrchestrator } kind;
    int64_t due;
    RunKey run;
    StepIx ix;  // kOrchestrator: its number
    uint32_t attempt;
    bool operator>(const Timer& o) const {
      return std::tie(due, run, ix, attempt, kind) > std::tie(o.due, o.run, o.ix, o.attempt, o.kind);
    }
  };

  struct Timers : std::priority_queue<Timer, std::vector<Timer>, std::greater<>> {
    using priority_queue::c;  // for those that are not on top
  };
  static constexpr size_t kFewTimers = 4096;

  struct Unshown {
    int64_t due;
    RunKey run;
    StepIx ix;
  };

  absl::Status On(RunSubmitted& event);
  absl::Status On(CancelRequested& event);
  absl::Status On(PauseRequested& event);
  absl::Status On(ResumeRequested& event);
  absl::Status On(SkipRequested& event);
  absl::Status On(RunRetried& event);
  absl::Status On(RunsDeleted& event);
  absl::Status On(AttemptAccepted& event);
  absl::Status On(AttemptRefused& event);
  absl::Status On(AttemptNotFound& event);
  absl::Status On(AttemptHeldUp& event);
  absl::Status On(AttemptStarted& event);
  absl::Status On(HeartbeatReceived& event);
  absl::Status On(AttemptEnded& event);
  absl::Status On(OutputsStored& event);
  absl::Status On(ArtifactPublished& event);
  absl::Status On(StepResolved& event);
  absl::Status On(StepsResolved& event);
  absl::Status On(CacheEntriesRemoved& event);
  absl::Status On(FanoutResolved& event);
  absl::Status On(OrchestratorChanged& event);
  absl::Status On(OrchestratorRemoved& event);
  absl::Status On(ArtifactStoreChanged& event);
  absl::Status On(OrchestratorHealthChanged& event);
  absl::Status On(OrchestratorProbed& event);
  absl::Status On(PoolChanged& event);
  absl::Status On(SecretRemoved& event);
  absl::Status On(HookReported& event);

  // runs
  void SetRun(RunInMemory& run, RunEvent event, RunState to, Reason reason, std::string message);
  RunInMemory& Adopt(StoredRun stored);
  void CloseEarly(RunInMemory& run);
  void AdoptGraph(RunInMemory& run);
  void ForgetWork(RunKey key);
  absl::Status CheckComponents(const RunHeader& header, const Graph& graph) const;
  static std::shared_ptr<const Graph> WithoutChosenFanouts(std::shared_ptr<const Graph> graph,
                                                           const std::vector<bool>& chosen);
  void RemoveStep(RunInMemory& run, StepIx ix, std::string message);
  void StartHeart(RunInMemory& run, StepIx ix, LiveAttempt& attempt);
  void OnStepFailed(RunInMemory& run, StepIx ix);
  void StopLive(RunInMemory& run, Reason reason, bool force);
  void StopRest(RunInMemory& run);
  void MaybeEndRun(RunInMemory& run);
  void AddRunHook(const RunInMemory& run);
  void AddStepHook(const RunInMemory& run, StepIx ix);
  bool MayStart(const RunInMemory& run) const;

  // steps
  void SetStep(RunInMemory& run, StepIx ix, StepEvent event, StepState to, Reason reason, std::string message);
  void EndStep(RunInMemory& run, StepIx ix, StepEvent event, StepState to, Reason reason, std::string message);
  StepDetail& Detail(RunInMemory& run, StepIx ix);
  void MarkDirty(RunInMemory& run, StepIx ix);
  void Judge(RunInMemory& run, StepIx ix);
  void CloseOne(RunInMemory& run, StepIx ix, uint8_t seen);
  void CloseRange(RunInMemory& run, StepIx first, uint32_t count, uint8_t seen);
  void CloseAll(RunInMemory& run, const Edge& edge, uint8_t seen);
  void JudgeGroup(RunInMemory& run, StepIx ix);
  void AskToFanOut(RunInMemory& run, StepIx ix);
  void Expand(RunInMemory& run, uint32_t t);
  void SkipInstances(RunInMemory& run, StepIx group);
  void SkipInstance(RunInMemory& run, StepIx ix);
  void CloseFrom(RunInMemory& run, const Edge& edge, StepIx producer, uint8_t seen);
  void Propagate(RunInMemory& run, StepIx ix);
  void DrainEnded(int limit);
  void BecomeReady(RunInMemory& run, StepIx ix, bool judged);
  void Offer(RunInMemory& run, StepIx ix) { Offer(run, ix, now_.mono); }
  void Offer(RunInMemory& run, StepIx ix, int64_t ready_mono);
  int64_t ReadySince(const RunInMemory& run, StepIx ix) const;
  void Enqueue(RunInMemory& run, StepIx ix, int64_t ready_mono);
  void Dequeue(RunInMemory& run, StepIx ix);
  void SkipEarlyConsumers(RunInMemory& run, StepIx producer);
  void StopStep(RunInMemory& run, StepIx ix);

  // the cache
  bool TakeFound(RunInMemory& run, StepIx ix);
  void TakeHit(RunInMemory& run, StepIx ix, const std::string& from, std::vector<StoredOutput> outputs);
  bool TakeLead(RunInMemory& run, StepIx ix);
  void EndFlight(RunInMemory& run, StepIx ix, const std::string& key, bool landed);
  void LeaveFlight(RunInMemory& run, StepIx ix);
  void Park(RunInMemory& run, StepIx ix);
  void ShowWaiting(RunInMemory& run, StepIx ix, Reason reason);
  void WorkOffFlights(int budget);

  // attempts
  LiveAttempt* FindLive(const AttemptRef& ref, RunInMemory** run);
  void Grant(RunInMemory& run, StepIx ix);
  void StopAttempt(RunInMemory& run, StepIx ix, Reason reason, bool force);
  void EndAttempt(RunInMemory& run, StepIx ix, AttemptState state, const AttemptEnd& end);
  void FailAttempt(RunInMemory& run, StepIx ix, const AttemptEnd& end);
  void GiveSlots(RunInMemory& run, StepIx ix, LiveAttempt& attempt);
  void Touch(RunInMemory& run, StepIx ix, LiveAttempt& attempt);
  std::vector<std::vector<ArtifactId>> InputsOf(const RunInMemory& run, StepIx ix) const;
  std::vector<ArtifactId> WhenValuesOf(const RunInMemory& run, StepIx ix) const;
  void AskToResolve(RunInMemory& run, StepIx ix);
  void AwaitArtifacts(const RunInMemory& run, StepIx ix);
  void AwaitNoMore(const RunInMemory& run, StepIx ix);
  void WakeForArtifact(const std::string& project, const std::string& name);
  std::string UnmetMessage(const RunInMemory& run, StepIx ix, Reason unmet) const;
  void SubmitNow(RunInMemory& run, StepIx ix, LiveAttempt& attempt);
  void AddIntent(Intent::Kind kind, const RunInMemory& run, StepIx ix, const LiveAttempt& attempt);
  ArtifactId Land(RunInMemory& run, StepIx ix, uint32_t attempt, const StoredOutput& output, bool early);
  void FinishWell(RunInMemory& run, StepIx ix, std::string cache_key, std::string parts_json);
  void FireTimer(const Timer& timer);
  bool IsAlive(const Timer& timer) const;
  void DropDeadTimers();

  // what an orchestrator takes
  int AllowanceOf(const OrchestratorState& orchestrator, int most) const;
  void NoteFailure(const RunInMemory& run, StepIx ix, const std::string& why);
  void NoteSuccess(const RunInMemory& run, StepIx ix);
  void NoteSubmission(OrchestratorState& orchestrator, const AttemptRef& ref);
  void ForgetTrial(const RunInMemory& run, StepIx ix);
  void Hold(const RunInMemory& run, StepIx ix);
  void LookAt(uint32_t number);
  void LookLater(uint32_t number, int64_t due);
  void WorkOffHeld();
  std::string AdmissionWords(const OrchestratorState& orchestrator) const;

  // explaining
  std::string PoolWords(PoolId pool) const;
  StepFinder Finder(const RunInMemory& run) const;
  void ExplainSlots(const RunInMemory& run, StepIx ix, std::vector<Cause>* causes) const;
  void ExplainReady(const RunInMemory& run, StepIx ix, Explained* out) const;
  void ExplainLive(const RunInMemory& run, StepIx ix, Explained* out) const;

  void AddSweep(Sweep::Kind kind, const RunInMemory& run, StepIx first, StepIx end, uint8_t seen);
  void RunSweeps(int budget);

  void LogRun(RunInMemory& run, EventType type);
  void LogStep(RunInMemory& run, StepIx ix, std::string message);
  EventRow& AddEvent(RunInMemory& run, EventType type);

  RunInMemory* FindRun(RunKey key);
  uint32_t InternOrchestrator(const std::string& name);
  OrchestratorState& OrchestratorOf(const RunInMemory& run, StepIx ix) {
    return orchestrators_[run.orchestrators[run.graph->TemplateOf(ix)]];
  }

  const CorePolicy policy_;
  Now now_;
  std::map<RunKey, std::unique_ptr<RunInMemory>> runs_;
  Pools pools_;
  ReadyQueue ready_;
  HookQueue hooks_;
  std::vector<OrchestratorState> orchestrators_;
  std::map<std::string, uint32_t> orchestrator_by_name_;
  std::map<RunKey, std::deque<Sweep>> sweeps_;   // in order within a run
  std::deque<RunKey> sweep_turns_;               // runs that have some, in turns
  std::deque<std::pair<RunKey, StepIx>> ended_;  // steps whose dependants have not been told
  SingleFlight flights_;
  CacheChanges cache_changes_;
  std::deque<std::string> overtaken_;            // keys whose leader has just started
  std::deque<std::pair<RunKey, StepIx>> woken_;  // steps whose leader has ended
  Timers timers_;
  size_t most_timers_ = kFewTimers;  // then those that nobody needs any more are dropped
  // (project, artifact's name) → steps that have asked for it and were told, or may be told, that it is not there.
  std::map<std::pair<std::string, std::string>, std::set<std::pair<RunKey, StepIx>>> awaited_;
  // (kind, name) of components that were taken away since the start and are not there again.
  std::set<std::pair<std::string, std::string>> removed_;
  std::deque<Unshown> unshown_;  // READY steps that are not on record yet, oldest first
  std::vector<RunKey> dirty_runs_;
  std::vector<std::pair<RunKey, StepIx>> dirty_steps_;
  std::vector<std::pair<RunKey, StepIx>> dirty_attempts_;
  std::vector<RunKey> finished_runs_;
  std::vector<uint32_t> fresh_orchestrators_;  // with fresh attempts
  std::set<uint32_t> holding_;                 // orchestrators that hold attempts
  Decisions out_;
  bool pass_needed_ = false;
  bool run_ended_ = false;  // since the last Take
  int64_t next_sequence_;
  RunKey next_run_key_;
  ArtifactId next_artifact_id_;
  int64_t live_attempts_ = 0;
  int64_t late_events_ = 0;
};

}  // namespace orch
