// The parts of the engine in the order in which they need each other. See engine.h for what it does.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/core/dispatcher.h"
#include "server/engine/artifact_stores.h"
#include "server/engine/cache_lookup.h"
#include "server/engine/catalog.h"
#include "server/engine/cleaner.h"
#include "server/engine/conditions.h"
#include "server/engine/deliveries.h"
#include "server/engine/engine.h"
#include "server/engine/file_workshop.h"
#include "server/engine/mailbox.h"
#include "server/engine/name_times.h"
#include "server/engine/outbox.h"
#include "server/engine/pruner.h"
#include "server/engine/reservations.h"
#include "server/engine/run_graphs.h"
#include "server/engine/step_files.h"
#include "server/engine/step_history.h"
#include "server/engine/step_tokens.h"
#include "server/engine/turn.h"
#include "server/engine/whole_runs.h"
#include "server/engine/worker_pool.h"
#include "server/store/store.h"

namespace orch {

// One commit of a pruning, which nobody waits for.
inline constexpr int64_t kPruneMicros = 30'000'000;

class EngineImpl : public Engine, private TurnSink {
 public:
  explicit EngineImpl(EngineOptions options) : options_(std::move(options)) {}
  ~EngineImpl() override { Shutdown(); }

  absl::Status Open();

  void Shutdown() override;
  absl::StatusOr<store::RunRecord> SubmitRun(SubmitCommand command, int64_t deadline_micros) override;
  absl::StatusOr<CheckedPipeline> CheckPipeline(const SubmitCommand& command) override;
  absl::StatusOr<PipelineRow> RegisterPipeline(SubmitCommand command, int64_t deadline_micros) override;
  absl::Status CancelRun(RunKey run, std::vector<StepIx> steps, bool force, Asked asked,
                         int64_t deadline_micros) override;
  absl::StatusOr<PlannedRun> PlanRun(SubmitCommand command, int64_t max_steps, bool native) override;
  absl::StatusOr<int64_t> InvalidateCache(const std::string& project, const std::string& pipeline,
                                          const std::string& step, bool validate_only, const std::string& request_id,
                                          int64_t deadline_micros) override;
  absl::StatusOr<std::optional<Explained>> Explain(RunKey run, std::optional<StepIx> ix,
                                                   int64_t deadline_micros) override;
  absl::Status PauseRun(RunKey run, Asked asked, int64_t deadline_micros) override;
  absl::Status ResumeRun(RunKey run, Asked asked, int64_t deadline_micros) override;
  absl::Status SkipSteps(RunKey run, std::vector<StepIx> steps, Asked asked, int64_t deadline_micros) override;
  absl::Status RetryRun(RetryCommand command, Asked asked, int64_t deadline_micros) override;
  void NoteHeartbeat(const AttemptIdentity& attempt) override;
  absl::StatusOr<Asked> Ask(RequestRow request) override;
  std::string SecretFingerprintOf(absl::string_view bytes) override { return tokens_->FingerprintOf(bytes); }
  absl::Status DeleteRuns(std::vector<RunKey> runs, Asked asked, int64_t deadline_micros) override;
  absl::StatusOr<std::vector<PruneGroup>> Prune(const Retention& rules, bool apply) override;
  absl::StatusOr<store::Backup> MakeBackup(const std::string& folder) override { return backups_->Make(folder); }
  Backups::Latest latest_backup() override { return backups_->latest(); }
  absl::StatusOr<ArtifactId> PublishArtifact(PublishCommand command, int64_t deadline_micros) override;
  bool HasOwnEnvironment(const std::string& orchestrator) override;
  std::shared_ptr<const CompiledPipeline> FindCompiled(const std::string& project, const std::string& name,
                                                       const std::string& digest) override;
  absl::StatusOr<std::shared_ptr<const CompiledPipeline>> LoadPipeline(int64_t pipeline_id) override;
  absl::StatusOr<std::shared_ptr<const Graph>> LoadGraph(const RunHeader& run) override;
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const store::RunRecord& run, StepIx ix, const AttemptRow& attempt,
                                                     LogStreamName stream) override;
  absl::StatusOr<std::unique_ptr<LogReader>> OpenHookLog(const store::RunRecord& run, const HookRow& hook,
                                                         LogStreamName stream) override;
  absl::StatusOr<std::string> ArtifactPath(absl::string_view digest) override;
  std::vector<std::shared_ptr<const FlavorInfo>> Flavors() override;
  std::shared_ptr<const FlavorInfo> FindFlavor(absl::string_view name) override;
  absl::StatusOr<std::shared_ptr<const FlavorInfo>> PutFlavor(const std::string& name, const PluginSource& source,
                                                              bool validate_only, int64_t deadline_micros) override;
  absl::Status DeleteFlavor(absl::string_view name, Asked asked, int64_t deadline_micros) override;
  absl::StatusOr<OrchestratorRow> PutOrchestrator(OrchestratorRow row, int64_t expected_version, bool validate_only,
                                                  int64_t deadline_micros) override;
  absl::Status DeleteOrchestrator(absl::string_view project, absl::string_view name, Asked asked,
                                  int64_t deadline_micros) override;
  absl::Status PutPool(PoolRow row, Asked asked, int64_t deadline_micros) override;
  absl::Status DeletePool(absl::string_view name, Asked asked, int64_t deadline_micros) override;
  absl::Status PutStack(StackRow row, Asked asked, int64_t deadline_micros) override;
  absl::Status DeleteStack(absl::string_view name, Asked asked, int64_t deadline_micros) override;
  absl::StatusOr<ArtifactStoreRow> PutArtifactStore(ArtifactStoreRow row, bool update, bool validate_only,
                                                    int64_t deadline_micros) override;
  absl::Status DeleteArtifactStore(absl::string_view name, Asked asked, int64_t deadline_micros) override;
  absl::StatusOr<SecretRow> SetSecret(absl::string_view project, absl::string_view name, absl::string_view value,
                                      Asked asked, int64_t deadline_micros) override;
  absl::Status DeleteSecret(absl::string_view project, absl::string_view name, bool force, Asked asked,
                            int64_t deadline_micros) override;
  std::map<std::string, int64_t> PoolUse() override;
  absl::StatusOr<std::map<std::string, OrchestratorHealth>> HealthOf(std::vector<std::string> names,
                                                                     int64_t deadline_micros) override;
  absl::StatusOr<ProbeReport> ProbeOrchestrator(absl::string_view project, absl::string_view name,
                                                int64_t deadline_micros) override;
  Capacity OrchestratorCapacity(absl::string_view project, absl::string_view name) override;
  absl::StatusOr<std::pair<ApiTokenRow, std::string>> CreateToken(const std::string& name, TokenScope scope,
                                                                  int64_t lifetime_micros,
                                                                  int64_t deadline_micros) override;
  std::vector<ApiTokenRow> ListTokens() override { return api_tokens_.List(); }
  absl::StatusOr<ApiTokenRow> RevokeToken(const std::string& name, Asked asked, int64_t deadline_micros) override;
  absl::StatusOr<TokenIdentity> AuthenticateToken(absl::string_view value) override;
  absl::Status CheckToken(const TokenIdentity& token) override;
  absl::StatusOr<AttemptIdentity> AuthenticateStep(absl::string_view token) override;
  absl::StatusOr<TaskIdentity> AuthenticateTask(absl::string_view token) override;
  absl::StatusOr<NextAttempt> FindNext(const TaskIdentity& task, absl::string_view launcher) override;
  StepFiles& step_files() override { return *step_files_; }
  absl::StatusOr<std::string> BeginAttempt(const AttemptIdentity& attempt, absl::string_view launcher) override;
  absl::Status EndAttempt(const AttemptIdentity& attempt, absl::string_view text) override;
  StopAsked StopOf(const AttemptIdentity& attempt) override;
  Hub& hub() override { return *hub_; }
  store::Queries& queries() override { return *queries_; }
  const Limits& limits() const override { return options_.limits; }
  const Retention& retention() const override { return options_.retention; }
  EngineStats stats() override;
  std::string instance() const override { return instance_; }
  int64_t epoch() const override { return epoch_; }

 private:
  // The orchestrators, pools and stacks in force; what submissions are checked against.
  struct Components {
    std::vector<OrchestratorRow> orchestrators;
    std::vector<PoolRow> pools;
    std::vector<StackRow> stacks;
    std::vector<ArtifactStoreRow> artifact_stores;  // but `default`
    std::vector<SecretRow> secrets;                 // without what is sealed
  };

  // start
  absl::Status LoadComponents();
  absl::StatusOr<Components> StoredComponents();
  absl::Status RestoreRuns();
  absl::Status RestoreHooks();
  absl::Status AdoptHooks();
  absl::Status LoadFlavors();
  // `registered`: it served before.
  absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const OrchestratorRow& row, bool registered);
  absl::Status PutInService(const OrchestratorRow& row);
  void RestoreOrchestrator(const OrchestratorRow& row);
  void NoteOrchestrator(const OrchestratorRow& row);
  // Nothing is submitted there until outbox_->Open, for that reason, and nothing of ours is there.
  // FAILED_PRECONDITION (ORCHESTRATOR_IN_USE), with a hint.
  absl::Status CloseOrchestrator(const std::string& name, std::string why, absl::string_view hint,
                                 int64_t deadline_micros);

  // the loop's thread
  void Loop();
  void AddRun(std::shared_ptr<const RunContext> run) override;
  void Publish(const Batch& committed) override;
  void Start(std::vector<Intent> intents) override;
  void ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) override;
  void RemoveRun(const RunRow& run) override;
  void PublishStats();

  // handlers
  // A word that nobody else may use, from the look into the store until the commit: it goes into the post.
  std::shared_ptr<const void> Hold(std::string word);
  // Nobody else changes this run meanwhile.
  std::shared_ptr<const void> HoldRun(RunKey run) { return Hold(absl::StrCat("change/", run)); }
  // Nobody else answers this request meanwhile; nothing if it has no id.
  std::shared_ptr<const void> HoldRequest(const RequestRow& request);
  // nullopt: none yet. The errors of Ask.
  absl::StatusOr<std::optional<std::string>> FindAnswer(const RequestRow& request);
  // Its answer becomes durable with the post's rows, and a repeat waits until then.
  static void Remember(Asked asked, std::string answer, Post* post);
  // For the repeat of a deletion: one that was committed after its caller had stopped waiting is not known here yet.
  absl::Status ForgetDeleted();
  absl::Status PostAndWait(Post post, int64_t deadline_micros, int64_t* number = nullptr);
  void NoteTokenUse(const TokenIdentity& token, int64_t now);
  // Where a run goes that names these (or none): its orchestrator, and its artifact store (empty: `default`).
  // NOT_FOUND (STACK_NOT_FOUND).
  struct Place {
    std::string orchestrator;
    std::string artifact_store;
  };
  absl::StatusOr<Place> PlaceOf(const SubmitCommand& command);
  absl::StatusOr<std::unique_ptr<BlobHome>> MakeHome(const ArtifactStoreRow& row);
  void LoadArtifactStores(const std::vector<ArtifactStoreRow>& rows);
  absl::Status CheckAgainstComponents(const std::string& orchestrator, const std::string& artifact_store,
                                      const PipelineSpec& spec, std::vector<Violation>* violations);
  absl::Status RefuseWhenFull();
  // Of the live attempt with this key, as they are now.
  absl::StatusOr<std::vector<SecretValue>> SecretsOf(const std::string& key);
  std::map<std::string, int64_t> CapacityByPool();
  absl::StatusOr<std::vector<std::string>> NativeOf(const RunContext& run, StepIx ix);
  // Commits it, and has the bytes removed that nothing needs any more.
  absl::Status Remove(Removals removals);
  absl::Status RefuseTooManyRuns();
  Components components();

  const EngineOptions options_;
  std::string instance_;
  int64_t epoch_ = 0;
  std::unique_ptr<store::Writer> writer_;
  std::unique_ptr<store::Queries> queries_;
  // Connections of their own: the blob store is asked while the cache is being read.
  std::unique_ptr<store::Queries> blob_queries_;
  std::unique_ptr<Hub> hub_;
  Reservations reservations_;  // before what may hold some
  Mailbox mailbox_{100'000};
  std::unique_ptr<BlobStore> blobs_;
  FileDigests files_;
  const Sources sources_{options_.data_dir, &files_};
  std::unique_ptr<CacheLookup> cache_;
  std::unique_ptr<StepHistory> history_;
  std::unique_ptr<ArtifactStores> stores_;
  std::unique_ptr<Inputs> inputs_;
  std::unique_ptr<Conditions> conditions_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<RunGraphs> run_graphs_;
  std::unique_ptr<StepTokens> tokens_;
  ApiTokens api_tokens_;
  std::unique_ptr<Secrets> secrets_;
  std::unique_ptr<Deliveries> deliveries_;
  std::unique_ptr<LeftBehind> left_;
  std::unique_ptr<WholeRuns> whole_runs_;
  std::unique_ptr<FileWorkshop> workshop_;
  std::unique_ptr<StepFiles> step_files_;
  ThreadExecutor executor_;
  std::unique_ptr<Outbox> outbox_;
  std::unique_ptr<Cleaner> cleaner_;
  std::unique_ptr<Pruner> pruner_;
  std::unique_ptr<Backups> backups_;
  NameTimes name_times_;
  std::unique_ptr<Dispatcher> core_;  // the loop's thread only, after Open
  std::unique_ptr<Turn> turn_;

  Mutex mutex_;
  Components components_ ABSL_GUARDED_BY(mutex_);
  struct PluginFlavor {
    FlavorRow row;
    std::shared_ptr<const FlavorInfo> info;
  };
  std::map<std::string, PluginFlavor> plugin_flavors_ ABSL_GUARDED_BY(mutex_);  // by name
  std::map<std::string, int64_t> pool_use_ ABSL_GUARDED_BY(mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  Mutex component_changes_;  // one change of orchestrators, pools or stacks at a time

  bool stats_stale_ = false;  // the loop's own
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> commits_{0};
  std::thread loop_;
};

}  // namespace orch
