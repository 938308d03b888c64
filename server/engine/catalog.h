// Pipelines as stored and as compiled. Numbers versions, keeps the compiled ones that are in use.
//
// Any thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/core/compile.h"
#include "server/engine/engine.h"
#include "server/engine/mailbox.h"
#include "server/store/queries.h"

namespace orch {

inline CompileLimits CompileLimitsOf(const Limits& limits) {
  return {limits.steps_per_run, limits.fanout_width,  limits.outputs_per_run,
          limits.item_links,    limits.message_bytes, limits.expressions};
}

class Catalog {
 public:
  Catalog(const EngineOptions& options, int64_t next_pipeline_id, store::Queries* queries, Mailbox* mailbox);

  // Compiled, and stored nowhere yet (`row.id` 0) unless it is known. INVALID_ARGUMENT (PIPELINE_INVALID) with all
  // violations.
  absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Check(const std::string& project, PipelineSpec spec,
                                                                const std::string& bytes, std::string digest = "");
  // The same of what is submitted; takes its spec.
  absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Check(SubmitCommand* command);
  // What is in memory of the pipeline of this name and digest; null: nothing.
  std::shared_ptr<const CompiledPipeline> FindCompiled(const std::string& project, const std::string& name,
                                                       const std::string& digest);
  // The stored version of what Check gave, stored now if it is new: its rows are in the mailbox before this returns, so
  // whatever is posted later is committed later.
  absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Store(std::shared_ptr<const CompiledPipeline> checked,
                                                                const std::string& bytes, int64_t now_wall);
  absl::StatusOr<std::shared_ptr<const CompiledPipeline>> Load(int64_t pipeline_id);

 private:
  void Keep(std::shared_ptr<const CompiledPipeline> pipeline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<const CompiledPipeline> FindKept(int64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions& options_;
  store::Queries* const queries_;
  Mailbox* const mailbox_;
  Mutex mutex_;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_);
  // (project, name, digest) → id, and (project, name) → newest version, for what this life has seen.
  std::map<std::tuple<std::string, std::string, std::string>, int64_t> ids_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::string>, int64_t> versions_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<int64_t, std::weak_ptr<const CompiledPipeline>> known_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<const CompiledPipeline>> recent_ ABSL_GUARDED_BY(mutex_);
};

// What Compile says, as one error.
absl::Status PipelineInvalid(const std::string& name, const std::vector<Violation>& violations);

}  // namespace orch
