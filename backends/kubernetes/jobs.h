// The attempts that a cluster has Jobs of (or what a JobKind has instead), or will have: the hands to what JobLife
// decides.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/companion.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/job_kind.h"
#include "backends/kubernetes/job_life.h"
#include "backends/kubernetes/job_log.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/pending.h"

namespace orch::kubernetes {

// So long what belongs to nothing any more is the garbage collector's, in microseconds.
inline constexpr int64_t kCollectorsTime = 90'000'000;

// On one thread, but for Wake and the paths of logs. What becomes of an attempt is told to the listener, as
// backends/api/backend.h says it.
class Jobs {
 public:
  // All of them outlive it. `dial`: as ClusterLink's.
  Jobs(const BackendContext* context, const Config* config, const JobKind* kind, ClusterLink::Dial dial = nullptr);

  // Before anything else.
  void Attach(Companion* companion) { companion_ = companion; }
  void Connect(Listener* listener);
  void Begin(AttemptWork& work);
  void Cancel(const std::string& key, bool forced);
  void Forget(const std::string& key);
  // The cluster has removed what was forgotten.
  bool CleanedUp() const { return removing_.empty() && secrets_going_.empty(); }
  void Adopt(const std::vector<KnownAttempt>& attempts);
  // Does what there is to do; waits for that for at most as long as nothing is due.
  void Poll();
  // Any thread: as Backend::Native.
  std::vector<std::string> Native(const AttemptWork& work) const;
  ClusterLink& link() { return link_; }
  Listener* listener() { return listener_; }
  // Any thread: Poll returns.
  void Wake() { link_.Wake(); }

  // Any thread. Without its ending; of an AttemptName or a LogAddress.
  template <typename Name>
  std::string LogPrefix(const Name& name) const {
    return absl::StrCat(LogFolder(name.run_id), "/",
                        name.log.empty() ? absl::StrCat(name.step_index, ".", name.attempt) : name.log);
  }
  std::string LogFolder(const std::string& run_id) const { return absl::StrCat(context_->data_dir, "/logs/", run_id); }

 private:
  struct Job {
    Job(bool adopted, bool cancelled, bool verdicts) : life(adopted, cancelled, verdicts) {}

    JobLife life;
    AttemptWork work;  // of one that was adopted only its limits
    std::string name;  // the Job's
    std::string log_prefix;
    bool secret = false;  // it has one
    bool owned = false;   // which goes with its Job
    // Its Job may be there without it: nothing of the Job is taken for true until it is there, too.
    bool secret_due = false;
    bool completing = false;            // it is being asked for
    std::optional<JobView> seen_early;  // what was told of the Job meanwhile
    bool forced = false;
    bool stop_sent = false, kill_sent = false;
    bool stop_unknown = false;  // one of them may have been sent, by an earlier life of the daemon or without an answer
    bool looking = false;
    bool look_again = false;                      // when the cluster is back
    bool listed_job = false, listed_pod = false;  // by the list that goes on
    uint64_t timer = 0;
    std::unique_ptr<JobLog> log;
    Pending pending;              // what was told
    bool by_events = false;       // the cluster's events say it, and neither Job nor pod
    int64_t patience_ends = 0;    // mono; when it has lasted too long
    bool given_up = false;        // it lasted too long
    uint64_t patience_timer = 0;  // until that is taken for good
    uint64_t events_timer = 0;    // until the cluster's events are asked for
    bool events_due = false;      // they are, as soon as its turn comes
    std::optional<AttemptEnd> end;
  };

  Job* Find(const std::string& key);
  std::vector<std::string> Keys() const;
  std::string PodPath(const Job& job) const;

  // What the link tells.
  void OnAnew();
  void OnBack();
  void OnListing(bool pods);
  void OnListed(bool pods);
  void OnJob(const nlohmann::json& object, bool gone);
  void OnPod(const nlohmann::json& object, bool gone);
  void RemoveStranger(const JobView& job);
  void Stray(const PodView& pod);
  void SweepStrays();
  bool RemoveLate(const std::string& key, const JobView& made);
  void Remove(const std::string& name, const std::string& uid);

  void Do(const std::string& key, const Move& move);
  void Make(const std::string& key);
  JobFacts FactsOf(const AttemptWork& work) const;
  void MakeSecret(const std::string& key);
  void NotMade(const std::string& key, const Answer& answer);
  void MakeJob(const std::string& key);
  void Own(const std::string& key);
  void Complete(const std::string& key, const JobView& view, std::function<void()> then);
  void CompleteBy(const std::string& key, const JobView& view, bool make, std::function<void()> then);
  void NotComplete(const std::string& key, const JobView& view, const Answer& answer);
  void Look(const std::string& key);
  void LookAtPods(const std::string& key, const CallAnswer& found, const std::optional<JobView>& job);
  void Refuse(const std::string& key, bool transient, Reason reason, const std::string& message);
  void Explain(const std::string& key);
  void AskEvents(const std::string& key);
  void NextEvents();
  void TellPending(const std::string& key, Pending pending, bool by_events);
  void NotPending(const std::string& key);
  JobLog& LogOf(const std::string& key);
  void Follow(const std::string& key);
  void FollowMore();
  void ReadLog(const std::string& key);
  bool Leaving(const Job& job) const;
  static bool WantsStop(const Job& job);
  void NotStopped(const std::string& key, const Answer& answer);
  void Stop(const std::string& key);
  void Tell(const std::string& key);
  void End(const std::string& key, AttemptEnd end);
  void StopJob(const std::string& key);
  void DeleteJob(const std::string& name, const std::string& uid, std::function<void(const Answer&)> done);
  // `failed`: it could not be asked for.
  void DeletePod(const std::string& name, const std::string& uid, int64_t grace_seconds,
                 std::function<void(const Answer&)> failed = nullptr);
  void DeleteSecret(const std::string& key, const std::string& name);

  const BackendContext* const context_;
  const Config* const config_;
  const JobKind& kind_;
  Listener* listener_ = nullptr;
  Companion* companion_ = nullptr;  // may be none
  ClusterLink link_;
  std::unordered_map<std::string, Job> jobs_;    // by key
  std::map<std::string, std::string> removing_;  // Jobs that nobody waits for: their names by their uids
  std::set<std::string> remove_again_;           // of these, when the cluster is back
  std::set<std::string> secrets_going_;          // of attempts: none is made before the former is gone
  // Jobs without their Secrets, by key, until their attempts are submitted again, or released: nobody's only then.
  std::map<std::string, JobView> incomplete_;
  struct StrayPod {
    std::string name, key, made_for;
    int64_t since = 0;
  };
  std::deque<std::string> events_due_;  // keys
  uint64_t events_pause_ = 0;
  std::map<std::string, StrayPod> strays_;  // by uid: of attempts that are over, and the cluster's to take away
  uint64_t strays_timer_ = 0;
  bool adopted_ = false;
};

}  // namespace orch::kubernetes
