// The workshop on this machine's files, the blob store and the database.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "server/base/mutex.h"
#include "server/engine/blob_store.h"
#include "server/engine/cache_lookup.h"
#include "server/engine/conditions.h"
#include "server/engine/engine.h"
#include "server/engine/inputs.h"
#include "server/engine/run_graphs.h"
#include "server/engine/secrets.h"
#include "server/engine/step_tokens.h"
#include "server/engine/workshop.h"
#include "server/store/queries.h"

namespace orch {

class FileWorkshop : public Workshop {
 public:
  // All of them outlive it.
  FileWorkshop(const EngineOptions& options, const StepTokens* tokens, CacheLookup* cache, store::Queries* queries,
               BlobStore* blobs, FileDigests* files, Inputs* inputs, Conditions* conditions, Secrets* secrets,
               RunGraphs* graphs);

  Rendered Render(const RunContext& run, const Intent& intent, const std::string& flavor, Backend* backend) override;
  Rendered RenderHook(const HookRow& hook, Backend* backend) override;
  OutputsStored Store(const RunContext& run, const Intent& intent) override;
  StepsResolved Resolve(const RunContext& run, const std::vector<Intent>& intents) override;
  FanoutResolved ResolveFanout(const RunContext& run, const Intent& intent) override;
  bool IsQuick(const RunContext& run, const Intent& intent) override;
  void Discard(const std::string& key) override;

 private:
  absl::Status FindOutside(const RunContext& run, StepIx ix, std::vector<std::vector<ArtifactId>>* ids,
                           StepResolved* event);
  StepResolved ResolveOne(const RunContext& run, const Intent& intent);
  // As they are now: a changed secret is used by the next attempt.
  absl::Status Resolve(const RunContext& run, const StepSpec& spec, std::vector<SecretValue>* out);

  const EngineOptions& options_;
  const StepTokens* const tokens_;
  CacheLookup* const cache_;
  store::Queries* const queries_;
  BlobStore* const blobs_;
  FileDigests* const files_;
  Inputs* const inputs_;
  Conditions* const conditions_;
  Secrets* const secrets_;
  RunGraphs* const graphs_;
  Mutex mutex_;
  // Keys of attempts whose files had changed between the look into the cache and their start. A restart forgets them:
  // then nothing enters the cache.
  std::unordered_map<std::string, std::string> started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
