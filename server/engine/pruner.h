// Applies the rules of retention: says what goes, and takes it away in slices, each a commit of its own between others.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/api/backend.h"
#include "server/base/mutex.h"
#include "server/engine/hub.h"
#include "server/model/removals.h"
#include "server/model/retention.h"
#include "server/store/queries.h"

namespace orch {

class Pruner {
 public:
  using Backends = std::function<std::vector<std::shared_ptr<Backend>>()>;
  // Both wait for the commit.
  using Remove = std::function<absl::Status(Removals removals)>;
  using DeleteRuns = std::function<absl::Status(std::vector<RunKey> runs)>;
  // Waits until nobody else changes the run; nobody does until what it gives goes.
  using HoldRun = std::function<std::shared_ptr<const void>(RunKey run)>;
  // All outlive it.
  Pruner(store::Queries* queries, Hub* hub, Backends backends, Remove remove, DeleteRuns delete_runs, HoldRun hold_run)
      : queries_(queries),
        hub_(hub),
        backends_(std::move(backends)),
        remove_(std::move(remove)),
        delete_runs_(std::move(delete_runs)),
        hold_run_(std::move(hold_run)) {}
  ~Pruner() { Stop(); }

  // A group for each rule that is set. `apply`: what they say goes, as far as it did not change meanwhile; what could
  // not be done is an error, and what went before it is gone. One call at a time. Any thread.
  absl::StatusOr<std::vector<PruneGroup>> Prune(const Retention& rules, bool apply, int64_t now_wall);

  // Applies the rules every so often, until Stop. Once; nothing if `every_micros` is 0.
  void Start(Retention rules);
  void Stop();

 private:
  // Attempts whose cache entries go.
  using Makers = std::set<std::tuple<RunKey, StepIx, uint32_t>>;
  absl::StatusOr<PruneGroup> Cache(const RetentionRule& rule, bool apply, int64_t now, Makers* uncached);
  absl::StatusOr<PruneGroup> Artifacts(const RetentionRule& rule, bool apply, int64_t now, const Makers& uncached);
  absl::StatusOr<PruneGroup> Runs(const RetentionRule& rule, bool apply, int64_t now, std::vector<RunKey>* gone);
  absl::StatusOr<PruneGroup> Logs(const RetentionRule& rule, bool apply, int64_t now, const std::vector<RunKey>& gone);
  absl::StatusOr<PruneGroup> Events(const RetentionRule& rule, bool apply, int64_t now);
  absl::StatusOr<std::vector<store::EndedRun>> EndedRuns();
  bool stopping();

  store::Queries* const queries_;
  Hub* const hub_;
  const Backends backends_;
  const Remove remove_;
  const DeleteRuns delete_runs_;
  const HoldRun hold_run_;
  Mutex one_at_a_time_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace orch
