// The workshop on this machine's files, the blob store and the database.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/engine/artifact_stores.h"
#include "server/engine/blob_store.h"
#include "server/engine/cache_lookup.h"
#include "server/engine/conditions.h"
#include "server/engine/deliveries.h"
#include "server/engine/engine.h"
#include "server/engine/inputs.h"
#include "server/engine/left_behind.h"
#include "server/engine/run_graphs.h"
#include "server/engine/secrets.h"
#include "server/engine/sources.h"
#include "server/engine/step_tokens.h"
#include "server/engine/whole_runs.h"
#include "server/engine/workshop.h"
#include "server/store/queries.h"

namespace orch {

class FileWorkshop : public Workshop {
 public:
  // All of them outlive it.
  FileWorkshop(const EngineOptions& options, const StepTokens* tokens, CacheLookup* cache, store::Queries* queries,
               BlobStore* blobs, const Sources* sources, Inputs* inputs, Conditions* conditions, Secrets* secrets,
               RunGraphs* graphs, Deliveries* deliveries, ArtifactStores* stores, LeftBehind* left,
               WholeRuns* whole_runs);

  Rendered Render(const RunContext& run, const Intent& intent, const std::string& flavor, Backend* backend) override;
  Rendered RenderHook(const HookRow& hook, Backend* backend) override;
  OutputsStored Store(const RunContext& run, const Intent& intent) override;
  StepsResolved Resolve(const RunContext& run, const std::vector<Intent>& intents) override;
  FanoutResolved ResolveFanout(const RunContext& run, const Intent& intent) override;
  bool IsQuick(const RunContext& run, const Intent& intent) override;
  std::string OutputDirOf(const std::string& key, const Workspace& workspace) override;
  bool MayBeLeft(const std::string& key) override { return left_->MayBe(key); }
  Judged Judge(const std::string& key, bool last, AttemptEnd* end) override;
  void Discard(const std::string& key) override;
  WholeRun WholeRunOf(std::shared_ptr<const RunContext> run, const std::string& flavor, Backend* backend,
                      const Workspace& workspace) override;
  bool Withdraw(const std::string& key) override;
  std::string BegunAt(const std::string& key) override;
  bool HasEnd(const std::string& key) override { return deliveries_->EndOf(key).has_value(); }
  bool EndedWell(const std::string& key) override;

  // What makes the task of a launcher that cannot ask for it a file (StepFiles::Hand). Before any other call.
  using Hand = std::function<absl::StatusOr<std::string>(const std::string& key)>;
  void SetHand(Hand hand) { hand_ = std::move(hand); }

  // What a step's launcher would be started with at its first attempt, of a backend that tells what it would make of
  // that. No run is there yet: a key that no attempt has stands for its key, and kSecretShown for its token.
  absl::StatusOr<AttemptWork> Sketch(const RunContext& run, StepIx ix, const std::string& flavor, Backend* backend);
  // The same of a run that it would be given as a whole; without the steps that are `done`.
  absl::StatusOr<RunOutline> SketchRun(const RunContext& run, const std::string& flavor, Backend* backend,
                                       const std::vector<bool>& done);

  // A step's secrets as they are now: a changed one is used by the next attempt.
  absl::Status Resolve(const RunContext& run, const StepSpec& spec, std::vector<SecretValue>* out);

 private:
  // Keeps the task of an attempt that shares no files with the daemon, and makes the work of its launcher of it.
  absl::Status HandToLauncher(const RunContext& run, const StepSpec& spec, const std::vector<ReadyInput>& here,
                              const RenderFacts& facts, AttemptWork* work);
  void StartByLauncher(const std::string& endpoint, const std::string& token, AttemptWork* work) const;
  // What it gets besides its words and variables.
  void AddOptions(const StepSpec& spec, const std::string& flavor, AttemptWork* work) const;
  absl::Status FindOutside(const RunContext& run, StepIx ix, std::vector<std::vector<ArtifactId>>* ids,
                           StepResolved* event);
  StepResolved ResolveOne(const RunContext& run, const Intent& intent);
  // How steps that do not see this machine's sockets reach the daemon.
  std::string FarEndpoint(const Workspace& workspace) const;

  const EngineOptions& options_;
  const StepTokens* const tokens_;
  CacheLookup* const cache_;
  store::Queries* const queries_;
  BlobStore* const blobs_;
  const Sources* const sources_;
  Inputs* const inputs_;
  Conditions* const conditions_;
  Secrets* const secrets_;
  RunGraphs* const graphs_;
  Deliveries* const deliveries_;
  ArtifactStores* const stores_;
  LeftBehind* const left_;
  WholeRuns* const whole_runs_;
  Hand hand_;
  Mutex mutex_;
  // Keys of attempts whose files had changed between the look into the cache and their start. A restart forgets them:
  // then nothing enters the cache.
  std::unordered_map<std::string, std::string> started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
