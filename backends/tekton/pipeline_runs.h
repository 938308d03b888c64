// The runs that a cluster has as PipelineRuns, and the attempts that are begun in their tasks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/kubernetes/companion.h"
#include "backends/kubernetes/job_log.h"
#include "backends/kubernetes/jobs.h"
#include "backends/kubernetes/pending.h"
#include "backends/tekton/config.h"
#include "backends/tekton/draining_logs.h"
#include "backends/tekton/pipeline_run.h"
#include "backends/tekton/task_fate.h"

namespace orch::tekton {

// On the thread of `jobs`, whose link to the cluster it shares. What becomes of an attempt is told to the listener, as
// backends/api/backend.h says it.
class PipelineRuns : public kubernetes::Companion {
 public:
  // All of them outlive it.
  PipelineRuns(const BackendContext* context, const Config* config, kubernetes::Jobs* jobs, DrainingLogs* draining);

  using Outline = std::function<absl::StatusOr<RunOutline>()>;
  void Begin(const AttemptWork& work, Outline outline);
  // Any thread.
  std::vector<std::string> NativeRun(const RunOutline& outline) const;
  bool Has(const std::string& key) const { return attempts_.count(key) > 0; }
  void Began(const std::string& key, const std::string& place);
  void Kill(const std::string& key);
  void Forget(const std::string& key);
  void Adopt(const KnownAttempt& known);
  void KeepRuns(const std::vector<std::string>& run_ids);
  void ReleaseRun(const std::string& run_id);

  void Anew() override;
  void Begin() override;
  void Seen(const nlohmann::json& object, bool pod, bool gone) override;
  void Listing(bool pods) override;
  void Listed(bool pods) override;
  void Back() override;

 private:
  struct Attempt {
    AttemptName name;
    Outline outline;
    std::string run;  // its run's id as labels have it
    std::string log_prefix;
    int64_t memory = 0;
    int64_t log_limit = 0;
    std::string in;  // the PipelineRun that has its task; empty: it is looked for
    std::string place;
    bool accepted = false;
    bool adopted = false;
    bool killed = false;     // by force, or for the size of its log
    bool kill_sent = false;  // that was asked for, and not refused
    bool over = false;       // at its place nothing runs, and its log is read to the end
    bool forgotten = false;  // the daemon has its end, and its log is still read
    bool waited = false;     // long enough for what Tekton says of a pod that was taken away
    int moves = 0;           // to another PipelineRun
    kubernetes::Pending pending;
    std::unique_ptr<kubernetes::JobLog> log;
    uint64_t timer = 0;  // until what is forgotten is let go, or it has been waited
    std::optional<AttemptEnd> end;
  };
  struct Native {
    PipelineRunView view;
    std::map<uint32_t, TaskSeen> tasks;
    bool known = false;  // it was seen itself, not only what is of it
    bool gone = false;
    bool removing = false;
    bool owns = false;  // its Secret, or is about to
    bool listed = false;
    int64_t left_since = 0;  // that it is gone, and something of it is not; 0: not yet

    bool over() const { return gone || removing || view.over || view.deleting || !known; }
  };
  struct Making {
    RunOutline outline;
    int number = 1;
    bool asked = false;
  };

  Attempt* Find(const std::string& key);
  std::vector<std::string> KeysIn(const std::string& native) const;
  std::vector<std::string> KeysOf(const std::string& run) const;
  bool ready() const;

  void Place(const std::string& key);
  void Make(const std::string& run);
  void MakeRun(const std::string& run);
  void Made(const std::string& run, const kubernetes::Answer& answer);
  void LookAtTaken(const std::string& run);
  void Again(const std::string& run, const kubernetes::Answer& answer);
  void Refuse(const std::string& run, const kubernetes::Answer& answer);
  void Own(const std::string& name, const std::string& uid);
  void Take(const nlohmann::json& object);

  void OnRun(const nlohmann::json& object, bool gone);
  void Check(const std::string& key);
  void CheckAll(const std::string& native);
  void PlaceOver(const std::string& key, const Native& native, const TaskSeen& seen);
  void Explain(const std::string& key, const TaskSeen& seen);
  void NotStarted(const std::string& key, const Native& native, const TaskSeen& seen);
  kubernetes::JobLog& LogOf(const std::string& key);
  void LogRead(const std::string& key);
  void End(const std::string& key, AttemptEnd end);
  void Drop(const std::string& key);
  void DropLater(const std::string& key);

  bool HasLeft(const Native& native) const;
  void AwaitLeft(const std::string& name);
  void SweepLeft();
  void Settle(const std::string& name);
  void AwaitEnd(const kubernetes::PodView& pod, bool gone);
  void Sweep();
  void RemoveReleased();
  void Remove(const std::string& name);
  void DeleteTaskRun(const kubernetes::JobView& task_run);
  // `grace_seconds`: negative: the pod's own. `failed`: it could not be asked for.
  void DeletePod(const std::string& place, int64_t grace_seconds,
                 std::function<void(const kubernetes::Answer&)> failed = nullptr);
  std::string Path(const std::string& name = "") const;

  const BackendContext& context_;
  const Config& config_;
  kubernetes::Jobs& jobs_;
  DrainingLogs& draining_;
  std::unique_ptr<kubernetes::Watch> watch_;
  std::unordered_map<std::string, Attempt> attempts_;  // by key
  std::map<std::string, Native> natives_;              // by name
  std::map<std::string, Making> making_;               // by run
  std::map<std::string, uint64_t> leaving_;            // until a pod that is deleted should be gone; by place
  uint64_t left_timer_ = 0;
  std::set<std::string> kept_;
  std::set<std::string> released_;
  bool keeps_ = false;  // it is known which runs there are
  bool begun_ = false;
  bool listed_ = false;
};

}  // namespace orch::tekton
