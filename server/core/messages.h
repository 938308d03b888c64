// What goes into the core (events, in the past tense) and what comes out (intents, in the imperative, and rows).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "server/model/attempt_end.h"
#include "server/model/batch.h"
#include "server/model/graph.h"

namespace orch {

struct AttemptRef {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
};

// An output whose bytes are in the store.
struct StoredOutput {
  uint32_t output = 0;  // its number in the step
  BlobRow blob;
  std::optional<std::string> value_json;
  std::string metadata_json;
};

// --- events ---

// A step of a run to be, whose outputs are in the cache.
struct FoundHit {
  StepIx ix = 0;
  std::string key;            // the entry's, 32 raw bytes
  uint32_t run = 0;           // number of the name of the run that made it
  uint32_t first_output = 0;  // its outputs in FoundHits::outputs
  uint32_t outputs = 0;
  bool taken = false;
};
// What a handler found in the cache for a run, each under the condition that the producers of its inputs are hits too.
struct FoundHits {
  uint64_t as_of = 0;          // the version of the cache before it was read
  std::vector<FoundHit> hits;  // by ix
  std::vector<StoredOutput> outputs;
  std::vector<std::string> runs;
};

// RESOURCE_EXHAUSTED (TOO_MANY_RUNS); NOT_FOUND (ORCHESTRATOR_NOT_FOUND, ARTIFACT_STORE_NOT_FOUND, POOL_NOT_FOUND) if
// what it needs was taken away since it was checked.
struct RunSubmitted {
  RunHeader header;  // `key` is given by the dispatcher
  std::shared_ptr<const Graph> graph;
  FoundHits found;
};
struct CancelRequested {
  RunKey run = 0;
  std::vector<StepIx> steps;  // empty: the whole run
  bool force = false;
};
// Nothing new starts, until it is resumed. FAILED_PRECONDITION: RUN_ENDED, RUN_STOPPING.
struct PauseRequested {
  RunKey run = 0;
};
struct ResumeRequested {
  RunKey run = 0;
};
// All of the steps or none. FAILED_PRECONDITION: STEP_STARTED if one has a live attempt, STEP_ENDED, RUN_ENDED.
struct SkipRequested {
  RunKey run = 0;
  std::vector<StepIx> steps;
};
// A run as the store has it, with what its next generation shall be.
struct StoredRun {
  RunHeader header;
  RunRow row;
  std::shared_ptr<const Graph> graph;
  std::vector<StepRow> steps;
  std::vector<AttemptRow> attempts;
  std::vector<ArtifactRow> artifacts;
};
// Reopens a run that has ended FAILED or CANCELLED. FAILED_PRECONDITION (RUN_NOT_ENDED, RUN_SUCCEEDED).
struct RunRetried {
  StoredRun run;              // the header is the next generation's; attempts are not needed
  bool unsuccessful = true;   // reopens what failed, was cancelled, or was skipped because of that
  std::vector<StepIx> steps;  // reopens these too
  // Set if it goes on with other steps: the numbers that the graph has, EncodeNumbering, and the fan-outs made at run
  // time that it has kept.
  std::string numbering;
  std::vector<FanoutRow> fanouts;
};
// Runs that have ended and go. Refused with FAILED_PRECONDITION (RUN_NOT_ENDED) if one of them is live.
struct RunsDeleted {
  std::vector<DeletedRunRow> runs;
};
struct AttemptAccepted {
  AttemptRef ref;
  std::string handle;
  std::string external_id;
  std::string url;
};
struct AttemptRefused {
  AttemptRef ref;
  bool transient = false;
  Reason reason = Reason::kSubmitRefused;
  std::string message;
  bool ours = false;  // the platform was not asked: this says nothing of it
};
// The platform, asked after a restart or a lost answer, has no such job.
struct AttemptNotFound {
  AttemptRef ref;
};
// The platform has it, and says why it has not begun.
struct AttemptHeldUp {
  AttemptRef ref;
  Reason reason = Reason::kNone;
  std::string message;
};
struct AttemptStarted {
  AttemptRef ref;
  std::string external_id;
  std::string node;
  int64_t wall = 0;
};
// The step says that it is alive. Not kept anywhere: a restart is a sign of life for all.
struct HeartbeatReceived {
  AttemptRef ref;
};
struct AttemptEnded {
  AttemptRef ref;
  AttemptEnd end;
};
struct OutputsStored {
  AttemptRef ref;
  std::vector<StoredOutput> outputs;  // all that had not been published before
  Reason failure = Reason::kNone;     // set: nothing was stored
  std::string message;
  bool source_changed = false;  // nothing enters the cache
  // What its outputs are entered under, and the parts of that; empty: nothing enters the cache.
  std::string cache_key;
  std::string parts_json;
};
struct ArtifactPublished {
  AttemptRef ref;
  StoredOutput output;
};
// The answer to a ResolveStep.
struct StepResolved {
  RunKey run = 0;
  StepIx ix = 0;
  int generation = 1;              // of the run, when it was asked
  Reason failure = Reason::kNone;  // set: it cannot run
  std::string message;
  bool when_false = false;           // its condition does not hold
  std::string waits_for;             // set: an artifact from outside the run, not there yet
  std::vector<ArtifactId> external;  // as AttemptRow.external
  std::string cache_key;             // 32 raw bytes; empty: not cacheable
  std::string parts_json;
  uint64_t as_of = 0;                             // the version of the cache before it was asked
  CacheVerdict verdict = CacheVerdict::kNoEntry;  // of a miss
  bool hit = false;
  std::string hit_run;                // its name
  std::vector<StoredOutput> outputs;  // of a hit, one for each output
  // It could not be found out now: the outbox asks again, and the dispatcher never sees this.
  bool again = false;
};
// Several, of any runs, in one transaction.
struct StepsResolved {
  std::vector<StepResolved> steps;
};
// Somebody takes entries out of the cache.
struct CacheEntriesRemoved {
  std::string project;
  std::vector<std::string> keys;  // 32 raw bytes each
  bool rows_go_with_it = false;   // the commit removes the rows by itself
};
// The answer to a ResolveFanout.
struct FanoutResolved {
  RunKey run = 0;
  StepIx ix = 0;                   // the group
  int generation = 1;              // of the run, when it was asked
  Reason failure = Reason::kNone;  // set: there is no such fan-out
  std::string message;
  Fanout fanout;
  bool again = false;  // as in StepResolved
};
// An orchestrator was registered or changed.
struct OrchestratorChanged {
  std::string name;
  bool present = true;
  std::map<std::string, int64_t> capacity;  // by pool (`cpu`, …); what it does not count is absent
  int max_parallel = 0;
  int64_t rate_milli = 0;  // submissions a second, in thousandths; 0: no limit
};
// Refused with FAILED_PRECONDITION (ORCHESTRATOR_IN_USE) while a run that has not ended needs it.
struct OrchestratorRemoved {
  std::string name;
};
// Taking a store away (`present` false) is refused with FAILED_PRECONDITION (ARTIFACT_STORE_IN_USE) while a run that
// has not ended keeps its artifacts there.
struct ArtifactStoreChanged {
  std::string name;
  bool present = true;
};
struct OrchestratorHealthChanged {
  std::string name;
  bool healthy = true;
  std::string why;  // it cannot be reached, for people
};
// The answer to a ProbeOrchestrator; also if somebody else has asked.
struct OrchestratorProbed {
  std::string name;
  bool well = true;
  std::string why;  // not, for people
};
// Taking a pool away (`present` false) is refused with FAILED_PRECONDITION (POOL_IN_USE) while a step needs it.
struct PoolChanged {
  std::string name;
  int64_t slots = 0;
  bool present = true;
};

// Refused with FAILED_PRECONDITION (SECRET_IN_USE) while a step that has not ended needs it, unless `force` is set.
struct SecretRemoved {
  std::string project;
  std::string name;
  bool force = false;
};

// What the supervisor says of a hook, by its key.
struct HookReported {
  enum class What : uint8_t { kStarted, kEnded, kNotFound, kRefused } what = What::kEnded;
  std::string key;
  int64_t wall = 0;  // kStarted
  AttemptEnd end;    // kEnded, kRefused
};

using Event =
    std::variant<RunSubmitted, CancelRequested, PauseRequested, ResumeRequested, SkipRequested, RunRetried, RunsDeleted,
                 AttemptAccepted, AttemptRefused, AttemptNotFound, AttemptHeldUp, AttemptStarted, HeartbeatReceived,
                 AttemptEnded, OutputsStored, ArtifactPublished, StepResolved, StepsResolved, FanoutResolved,
                 CacheEntriesRemoved, OrchestratorChanged, OrchestratorRemoved, ArtifactStoreChanged,
                 OrchestratorHealthChanged, OrchestratorProbed, PoolChanged, SecretRemoved, HookReported>;

// --- intents ---

// The name of what runs hooks; no orchestrator can have it.
inline constexpr char kHookOrchestrator[] = ".hooks";

// One side effect that the outbox performs. Every intent follows from stored state, so a restart makes it again:
// SubmitAttempt from SUBMITTING, CancelAttempt from a stopping attempt, StoreOutputs, ResolveStep and ResolveFanout
// from asking anew, ReleaseAttempt from the platform still having an attempt that has ended. ProbeOrchestrator follows
// from nothing that is stored: a restart takes every orchestrator for well. RunHook follows from a
// hook that is on record as running and that its supervisor does not know; CancelAttempt and ReleaseAttempt are for
// hooks too.
struct Intent {
  enum class Kind : uint8_t {
    kSubmitAttempt,
    kCancelAttempt,
    kReleaseAttempt,
    kStoreOutputs,
    kResolveStep,
    kResolveFanout,
    kProbeOrchestrator,  // has no attempt
    kRunHook
  };
  Kind kind = Kind::kSubmitAttempt;
  AttemptRef ref;
  int generation = 1;  // of the run
  std::string key;     // the attempt's
  std::string orchestrator;
  bool forced = false;          // kCancelAttempt
  std::string output_dir;       // kStoreOutputs
  std::string cache_key;        // kSubmitAttempt, kStoreOutputs
  std::vector<bool> published;  // kStoreOutputs: outputs to leave out
  // kResolveStep of a step with a `when`: for each of its sources, each instance, and each value output the artifact,
  // in this order; 0: not there.
  std::vector<ArtifactId> when_values;
  // kResolveFanout: for each key of the foreach the values of its list, or the one that holds it; 0: not there.
  std::vector<std::vector<ArtifactId>> lists;
  // All but cancel and release: for each input of the step the artifacts it reads now, in item order; 0: missing.
  std::vector<std::vector<ArtifactId>> inputs;
  std::shared_ptr<const HookRow> hook;  // kRunHook
};

// True for intents that make bytes nobody sees yet: they may run before the commit.
inline bool MayRunAtOnce(Intent::Kind kind) { return kind == Intent::Kind::kStoreOutputs; }

struct Decisions {
  Batch batch;
  std::vector<std::pair<RunKey, std::shared_ptr<const Graph>>> graphs;  // of runs that have got another one
  std::vector<Intent> intents;
};

}  // namespace orch
