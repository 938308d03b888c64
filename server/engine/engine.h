// Engine owns the loop: the one thread that applies events to the core, commits what it decides, and only then lets
// anything be seen or done. This is all that the API layer knows of the daemon's inside.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "server/base/status.h"
#include "server/core/admission.h"
#include "server/core/explain.h"
#include "server/engine/api_tokens.h"
#include "server/engine/backups.h"
#include "server/engine/cache_key.h"
#include "server/engine/hub.h"
#include "server/engine/launcher_words.h"
#include "server/model/graph.h"
#include "server/model/retention.h"
#include "server/store/queries.h"

namespace orch {

class StepFiles;

// Every limit has a name, a field in the configuration, and a line in docs/operations.md.
struct Limits {
  int64_t steps_per_run = 1'000'000;
  int64_t message_bytes = int64_t{256} << 20;
  int64_t value_bytes = 64 << 10;
  int64_t fanout_width = 100'000;
  int64_t outputs_per_run = 10'000'000;
  int64_t item_links = 20'000'000;
  int64_t expressions = 500;
  int64_t labels = 64;
  int64_t log_bytes = int64_t{4} << 30;
  int64_t log_compress_bytes = int64_t{1} << 20;
  int64_t live_runs = 100'000;
  int64_t inline_blob_bytes = 64 << 10;
  int64_t concurrent_calls = 128;
  int64_t watch_streams = 20'000;
  int64_t secret_bytes = 64 << 10;
  int64_t breaker_failures = 5;  // submissions in a row that an orchestrator refuses; 0: it is never taken out
  int64_t api_tokens = 1'000;
  int64_t hook_seconds = 300;
  int64_t hooks_at_once = 16;
  int64_t watch_patience_seconds = 30;  // with a watcher that takes nothing
  int64_t plugin_start_seconds = 20;    // until its first line
  int64_t plugin_call_seconds = 30;
  int64_t plugin_message_bytes = int64_t{16} << 20;
  int64_t plugin_log_bytes = int64_t{4} << 20;
  int64_t plugin_messages_per_second = 2'000;
  // Of steps that share no files with the daemon: one upload, entries of a folder, uploads under way, a source folder;
  // how long it is asked for what a launcher may have left in a store that is away, and waited for what a platform says
  // of the place of a launcher that did not end well; one thing that is in a task's file though it has an address, and
  // all things there.
  int64_t artifact_bytes = int64_t{1} << 40;
  int64_t folder_entries = 100'000;
  int64_t uploads_at_once = 64;
  int64_t launcher_patience_seconds = 600;
  int64_t left_patience_seconds = 3'600;
  int64_t place_patience_seconds = 60;
  int64_t source_bytes = int64_t{256} << 20;
  int64_t handed_inline_bytes = 64 << 10;
  int64_t handed_bytes = 4 << 20;
};

struct EngineOptions {
  std::string data_dir;
  std::string binary_dir;
  Limits limits;
  bool fake_flavor = false;
  int64_t grace_micros = 10'000'000;
  Retention retention;
  BackupPolicy backup;
  // A step that is first in order and has waited so long for a full pool reserves it.
  int64_t reserve_after_micros = 30'000'000;
  // What local steps get as ORCH_ENDPOINT: `unix:` and the path of the HTTP socket. Empty: they get none.
  std::string step_endpoint;
  // The same for steps that do not see this machine's sockets (`https://HOST:PORT`; empty: they get none), and the
  // certificates (PEM) one of which has signed that of the endpoint; empty: the system's know it.
  std::string far_step_endpoint;
  std::string step_ca;
  // What speaks with plug-ins; null: there are none. Outlives the engine.
  PluginHost* plugins = nullptr;
  // A folder with a socket `http.sock` that needs a token, for steps that may not have the rights of the daemon's user.
  std::string step_sockets;
  // Parses a stored spec (serialized orch.v1.Pipeline); the engine itself knows no protobuf. Any thread.
  std::function<absl::StatusOr<PipelineSpec>(const std::string& bytes)> parse_spec;
};

// A pipeline ready to run.
struct CompiledPipeline {
  PipelineRow row;
  std::shared_ptr<const Graph> graph;
};

struct SubmitCommand {
  std::string project = "default";
  std::string name;                                    // empty: made from the pipeline's name and the time
  PipelineSpec spec;                                   // empty if it is known
  std::shared_ptr<const CompiledPipeline> known;       // compiled before, from the same bytes
  std::string spec_bytes;                              // serialized orch.v1.Pipeline, deterministic
  std::string spec_digest;                             // SHA-256 of these; empty: not made yet
  std::map<std::string, std::string> parameters_json;  // name → compact JSON
  std::string orchestrator;                            // empty: the stack's
  std::string stack;                                   // empty: the default one
  std::vector<std::pair<std::string, std::string>> labels;
  int priority = 0;
  std::string request_id;
  std::string fingerprint;  // SHA-256 of the request without its request_id
  bool validate_only = false;
  std::string submitter_host;
  std::string source_dir;
  std::vector<std::pair<std::string, std::string>> environment;
  std::optional<ExecutionMode> execution_mode;
  int max_parallel = 0;
  int64_t timeout_micros = 0;
  bool use_cache = true;

  const PipelineSpec& pipeline() const { return known != nullptr ? known->graph->spec() : spec; }
};

// A call under its request_id, from the look for an earlier answer until its own is on the disk. Without an id it is
// empty, and nothing is remembered.
struct Asked {
  RequestRow request;
  std::optional<std::string> answer;  // of the first one, which is done: of a call about a run, the run's key
  std::shared_ptr<const void> hold;   // a repeat waits until it is let go of
};

struct RetryCommand {
  RunKey run = 0;
  std::vector<StepIx> steps;                           // empty: those that did not succeed
  std::map<std::string, std::string> parameters_json;  // over the run's: name → compact JSON
  std::optional<bool> use_cache;
  std::optional<PipelineSpec> spec;  // the corrected pipeline; absent: the run's own
  std::string spec_bytes;
};

struct CheckedPipeline {
  std::vector<Violation> violations;
  std::vector<Violation> warnings;
  int64_t step_count = 0;
};

// What a submission would do with one step.
struct PlannedStep {
  enum class Action : uint8_t { kRun = 1, kCached = 2, kDepends = 3 };
  StepIx ix = 0;
  Action action = Action::kRun;
  std::string text;         // for people
  std::string cached_from;  // the run's name
  std::vector<PartChange> changes;
  std::string compared_with;  // the run's name
  int64_t expected_micros = 0;
  int samples = 0;  // earlier runs of the step behind `expected_micros`; 0: unknown
  int64_t starts_micros = 0;
  bool critical = false;
  std::vector<std::string> native;  // what its platform would be asked to make, as JSON (Backend::Native)
};

struct PlannedRun {
  CheckedPipeline checked;  // with violations there is nothing else
  std::shared_ptr<const Graph> graph;
  int64_t cached = 0;
  int64_t runs = 0;
  int64_t depends = 0;
  std::vector<PlannedStep> steps;  // as they would start; at most as many as asked for
  int64_t total_micros = 0;
  int64_t known = 0;  // steps that would (or may) run and have run before
  std::vector<StepIx> critical;
  int history_runs = 0;
  bool whole = false;                         // the orchestrator would be given the run as one of its own
  std::vector<std::string> why_step_by_step;  // why not, of one that takes whole runs
  std::vector<std::string> native;            // of a whole run; then its steps have none (Backend::NativeRun)
};

struct PublishCommand {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
  std::string fence;
  std::string output;
  std::string metadata_json;
};

// Who makes a call with a step's own token.
struct AttemptIdentity {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t attempt = 0;
  std::string key;
};

// How the daemon does: for ServerInfo and the metrics.
struct EngineStats {
  std::string status;  // `SERVING`, `DRAINING`
  int64_t live_runs = 0;
  int64_t live_attempts = 0;
  int64_t ready_steps = 0;
  int64_t mailbox_depth = 0;
  int64_t batches = 0;
  int64_t events_applied = 0;
  int64_t commit_micros_total = 0;
  int64_t apply_micros_total = 0;
  int64_t late_events = 0;
  int64_t syncs = 0;
  int64_t wal_bytes = 0;
  int64_t supervisor_pid = 0;
};

// All calls: any thread. Those that change something return after the commit (or fail with nothing changed), within
// `deadline_micros` of waiting (DEADLINE_EXCEEDED: it may still happen; repeat with the same request_id). What is Asked
// is remembered with the change, in one commit; what was refused is not. With an `answer` nothing is done again.
class Engine {
 public:
  // Opens the store, loads what has not ended, starts the loop and adopts. FAILED_PRECONDITION (DATA_DIR_LOCKED) and
  // the store's other refusals.
  static absl::StatusOr<std::unique_ptr<Engine>> Start(EngineOptions options);
  virtual ~Engine() = default;
  // Takes no new work, lets the loop finish what it has, closes the hub and the store. Local steps go on.
  virtual void Shutdown() = 0;

  // The new run as it is once committed, or for a repeated request_id the first one as it is now.
  virtual absl::StatusOr<store::RunRecord> SubmitRun(SubmitCommand command, int64_t deadline_micros) = 0;
  // Everything that SubmitRun would refuse, at once.
  virtual absl::StatusOr<CheckedPipeline> CheckPipeline(const SubmitCommand& command) = 0;
  virtual absl::StatusOr<PipelineRow> RegisterPipeline(SubmitCommand command, int64_t deadline_micros) = 0;
  // Steps empty: the whole run.
  virtual absl::Status CancelRun(RunKey run, std::vector<StepIx> steps, bool force, Asked asked,
                                 int64_t deadline_micros) = 0;
  // What SubmitRun would do, and how long that would take. Changes nothing.
  // `native`: also what platforms would be asked to make for the steps that would run.
  virtual absl::StatusOr<PlannedRun> PlanRun(SubmitCommand command, int64_t max_steps, bool native) = 0;
  // Takes the entries of a pipeline, or of one of its steps, out of the cache; `validate_only` counts them alone.
  virtual absl::StatusOr<int64_t> InvalidateCache(const std::string& project, const std::string& pipeline,
                                                  const std::string& step, bool validate_only,
                                                  const std::string& request_id, int64_t deadline_micros) = 0;
  // Why a step (or, without one, the run) is where it is; nullopt: the run has ended, its rows say the rest.
  virtual absl::StatusOr<std::optional<Explained>> Explain(RunKey run, std::optional<StepIx> ix,
                                                           int64_t deadline_micros) = 0;
  // FAILED_PRECONDITION: RUN_ENDED, RUN_STOPPING. A paused run is paused already, a running one resumed.
  virtual absl::Status PauseRun(RunKey run, Asked asked, int64_t deadline_micros) = 0;
  virtual absl::Status ResumeRun(RunKey run, Asked asked, int64_t deadline_micros) = 0;
  // FAILED_PRECONDITION: RUN_ENDED, STEP_STARTED, STEP_ENDED. All of them or none.
  virtual absl::Status SkipSteps(RunKey run, std::vector<StepIx> steps, Asked asked, int64_t deadline_micros) = 0;
  // Reopens a run as its next generation. FAILED_PRECONDITION: RUN_NOT_ENDED, RUN_SUCCEEDED; INVALID_ARGUMENT:
  // PIPELINE_INVALID (it cannot run any more; with all faults), PIPELINE_OTHER (the corrected one has another name),
  // STEPS_PER_RUN (with the numbers of earlier generations they are too many).
  virtual absl::Status RetryRun(RetryCommand command, Asked asked, int64_t deadline_micros) = 0;
  // The attempt is alive. Never waits.
  virtual void NoteHeartbeat(const AttemptIdentity& attempt) = 0;
  // Waits while another call under this method, project and request_id is on its way, and finds what it was answered.
  // INVALID_ARGUMENT (REQUEST_ID_REUSED): the id was another request's, by the fingerprint.
  virtual absl::StatusOr<Asked> Ask(RequestRow request) = 0;
  // Of a request with something secret in it, so that nobody who reads the database can try values.
  virtual std::string SecretFingerprintOf(absl::string_view bytes) = 0;
  // Runs that have ended vanish, all or none of them; their logs, and artifacts that nothing pins, are removed after
  // the answer, in the background. FAILED_PRECONDITION (RUN_NOT_ENDED) names one that has not; one that is gone already
  // is passed over.
  virtual absl::Status DeleteRuns(std::vector<RunKey> runs, Asked asked, int64_t deadline_micros) = 0;
  // What the rules (none set: those of the configuration) take away, or with `apply` took away.
  virtual absl::StatusOr<std::vector<PruneGroup>> Prune(const Retention& rules, bool apply) = 0;
  // A copy of the database in `folder` (empty: where the configuration says), made while all goes on. See Backups.
  virtual absl::StatusOr<store::Backup> MakeBackup(const std::string& folder) = 0;
  virtual Backups::Latest latest_backup() = 0;
  virtual absl::StatusOr<ArtifactId> PublishArtifact(PublishCommand command, int64_t deadline_micros) = 0;

  // True if nothing of the submitter's environment is in that of its steps; false for one that is not in service.
  virtual bool HasOwnEnvironment(const std::string& orchestrator) = 0;
  // What is in memory of the pipeline with these bytes; null: nothing.
  virtual std::shared_ptr<const CompiledPipeline> FindCompiled(const std::string& project, const std::string& name,
                                                               const std::string& digest) = 0;
  // The graph of a run or pipeline; cached.
  virtual absl::StatusOr<std::shared_ptr<const CompiledPipeline>> LoadPipeline(int64_t pipeline_id) = 0;
  // The graph of this run, with what its fan-outs made at run time have become so far.
  virtual absl::StatusOr<std::shared_ptr<const Graph>> LoadGraph(const RunHeader& run) = 0;

  virtual absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const store::RunRecord& run, StepIx ix,
                                                             const AttemptRow& attempt, LogStreamName stream) = 0;
  // Of its newest try.
  virtual absl::StatusOr<std::unique_ptr<LogReader>> OpenHookLog(const store::RunRecord& run, const HookRow& hook,
                                                                 LogStreamName stream) = 0;
  // A local path of an artifact's bytes (a file, or a folder); made from the database if they are kept there.
  virtual absl::StatusOr<std::string> ArtifactPath(absl::string_view digest) = 0;

  // The flavors that orchestrators may be of: built in, then plug-ins' by name; what is not listed only if enabled.
  virtual std::vector<std::shared_ptr<const FlavorInfo>> Flavors() = 0;
  // null if there is none.
  virtual std::shared_ptr<const FlavorInfo> FindFlavor(absl::string_view name) = 0;
  // Asks the plug-in (seconds, if it is slow) and brings in its flavor, or what has become of it. ALREADY_EXISTS
  // (FLAVOR_BUILT_IN, FLAVOR_EXISTS: another plug-in's), and what PluginHost::Describe says.
  virtual absl::StatusOr<std::shared_ptr<const FlavorInfo>> PutFlavor(const std::string& name,
                                                                      const PluginSource& source, bool validate_only,
                                                                      int64_t deadline_micros) = 0;
  // FAILED_PRECONDITION (FLAVOR_IN_USE) while an orchestrator is of it, FLAVOR_BUILT_IN; NOT_FOUND.
  virtual absl::Status DeleteFlavor(absl::string_view name, Asked asked, int64_t deadline_micros) = 0;
  // Create or change; `expected_version` 0: only create (or the same content again), -1: whatever.
  virtual absl::StatusOr<OrchestratorRow> PutOrchestrator(OrchestratorRow row, int64_t expected_version,
                                                          bool validate_only, int64_t deadline_micros) = 0;
  virtual absl::Status DeleteOrchestrator(absl::string_view project, absl::string_view name, Asked asked,
                                          int64_t deadline_micros) = 0;
  virtual absl::Status PutPool(PoolRow row, Asked asked, int64_t deadline_micros) = 0;
  virtual absl::Status DeletePool(absl::string_view name, Asked asked, int64_t deadline_micros) = 0;
  // NOT_FOUND (ORCHESTRATOR_NOT_FOUND, ARTIFACT_STORE_NOT_FOUND).
  virtual absl::Status PutStack(StackRow row, Asked asked, int64_t deadline_micros) = 0;
  // NOT_FOUND (STACK_NOT_FOUND); FAILED_PRECONDITION (STACK_IN_USE) for the default one.
  virtual absl::Status DeleteStack(absl::string_view name, Asked asked, int64_t deadline_micros) = 0;
  // Tries the store before it registers it. ALREADY_EXISTS (ARTIFACT_STORE_EXISTS) without `update`; as BlobHome.
  virtual absl::StatusOr<ArtifactStoreRow> PutArtifactStore(ArtifactStoreRow row, bool update, bool validate_only,
                                                            int64_t deadline_micros) = 0;
  // FAILED_PRECONDITION (ARTIFACT_STORE_IN_USE) while a stack names it or it has copies of what this daemon keeps.
  virtual absl::Status DeleteArtifactStore(absl::string_view name, Asked asked, int64_t deadline_micros) = 0;
  // The row without what is sealed, for a repeat too: as it was then.
  virtual absl::StatusOr<SecretRow> SetSecret(absl::string_view project, absl::string_view name,
                                              absl::string_view value, Asked asked, int64_t deadline_micros) = 0;
  // FAILED_PRECONDITION (SECRET_IN_USE) while a step that has not ended needs it, unless `force` is set.
  virtual absl::Status DeleteSecret(absl::string_view project, absl::string_view name, bool force, Asked asked,
                                    int64_t deadline_micros) = 0;
  // Slots in use: of named pools by their name, of others as `ORCHESTRATOR/cpu`, `run/KEY`.
  virtual std::map<std::string, int64_t> PoolUse() = 0;
  // How each of these is; those that were never heard of are absent.
  virtual absl::StatusOr<std::map<std::string, OrchestratorHealth>> HealthOf(std::vector<std::string> names,
                                                                             int64_t deadline_micros) = 0;
  // Asks its platform, and lets what it says count. NOT_FOUND (ORCHESTRATOR_NOT_FOUND). May take ten seconds.
  virtual absl::StatusOr<ProbeReport> ProbeOrchestrator(absl::string_view project, absl::string_view name,
                                                        int64_t deadline_micros) = 0;
  virtual Capacity OrchestratorCapacity(absl::string_view project, absl::string_view name) = 0;

  // A token for clients and its value, which is kept nowhere. `lifetime_micros` 0: it does not expire. ALREADY_EXISTS
  // (TOKEN_EXISTS) while one of that name is good, RESOURCE_EXHAUSTED (TOO_MANY_TOKENS).
  virtual absl::StatusOr<std::pair<ApiTokenRow, std::string>> CreateToken(const std::string& name, TokenScope scope,
                                                                          int64_t lifetime_micros,
                                                                          int64_t deadline_micros) = 0;
  virtual std::vector<ApiTokenRow> ListTokens() = 0;
  // NOT_FOUND (TOKEN_NOT_FOUND). A repeat gets the row as it was then.
  virtual absl::StatusOr<ApiTokenRow> RevokeToken(const std::string& name, Asked asked, int64_t deadline_micros) = 0;
  // Whose token this is. UNAUTHENTICATED: TOKEN_REVOKED, TOKEN_EXPIRED, TOKEN_INVALID. Never waits.
  virtual absl::StatusOr<TokenIdentity> AuthenticateToken(absl::string_view value) = 0;
  // As AuthenticateToken, for one that was let in before. Never waits.
  virtual absl::Status CheckToken(const TokenIdentity& token) = 0;

  // The attempt whose step token this is; UNAUTHENTICATED (TOKEN_INVALID) once it has ended.
  virtual absl::StatusOr<AttemptIdentity> AuthenticateStep(absl::string_view token) = 0;

  // The task whose token this is; UNAUTHENTICATED (TOKEN_INVALID).
  virtual absl::StatusOr<TaskIdentity> AuthenticateTask(absl::string_view token) = 0;
  // NOT_FOUND (RUN_NOT_FOUND).
  virtual absl::StatusOr<NextAttempt> FindNext(const TaskIdentity& task, absl::string_view launcher) = 0;

  // What a launcher fetches and delivers, for an attempt that AuthenticateStep has found.
  virtual StepFiles& step_files() = 0;
  // The attempt's task for its launcher, `ID` or `ID@PLACE`. As StepFiles::Begin.
  virtual absl::StatusOr<std::string> BeginAttempt(const AttemptIdentity& attempt, absl::string_view launcher) = 0;
  // What its launcher says of its end. As Deliveries::PutEnd.
  virtual absl::Status EndAttempt(const AttemptIdentity& attempt, absl::string_view text) = 0;
  // Whether its launcher is to stop it; kNo where the platform tells it.
  virtual StopAsked StopOf(const AttemptIdentity& attempt) = 0;

  virtual Hub& hub() = 0;
  virtual store::Queries& queries() = 0;
  virtual const Limits& limits() const = 0;
  virtual const Retention& retention() const = 0;  // as configured
  virtual EngineStats stats() = 0;
  virtual std::string instance() const = 0;
  virtual int64_t epoch() const = 0;
};

}  // namespace orch
