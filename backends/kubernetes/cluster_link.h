// Whether a cluster can be reached, as whom, and what it tells by itself of all that is ours.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/client.h"
#include "backends/kubernetes/api/watch.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/job_kind.h"
#include "server/base/mutex.h"

namespace orch::kubernetes {

// What a kubeconfig meant when it was first read. Others change its current context, and what a context means: steps
// that run are where it was then, and are not looked for elsewhere.
struct ClusterTarget {
  std::string context, cluster, space;  // as Cluster has them
  bool in_pod = false;                  // its own cluster
};

// Where the configuration says that the cluster is, with the namespace that it means; `kept`: only addresses and
// credentials are read anew. FAILED_PRECONDITION, INVALID_ARGUMENT or NOT_FOUND as api/kubeconfig.h has them;
// FAILED_PRECONDITION (CLUSTER_CHANGED): the context that is kept means another cluster now.
absl::StatusOr<Cluster> FindCluster(const Config& config, const std::optional<ClusterTarget>& kept = std::nullopt);

// All that a client is made of: a client for another one with the same would be no other.
std::string MadeOf(const Cluster& cluster);

// On one thread but for Wake; nothing is called back but from within Poll.
class ClusterLink {
 public:
  struct Calls {
    // The client is another one: what hung on the former is never answered.
    std::function<void()> anew;
    std::function<void(const nlohmann::json&object)> job_seen, job_gone, pod_seen, pod_gone;
    // All there is of one of the two is told anew; what was not seen in between is not there.
    std::function<void(bool pods)> listing, listed;
    // It can be asked (again).
    std::function<void()> back;
    // News: it can (not) be reached, and why.
    std::function<void(bool healthy, const std::string& why)> told;
  };
  // The client of a cluster; none: the real one.
  using Dial = std::function<std::unique_ptr<Client>(const Cluster& cluster)>;
  // `kind` outlives it. `selector`: of what is ours.
  ClusterLink(const Config* config, const JobKind* kind, std::string selector, Calls calls, Dial dial = nullptr);
  ~ClusterLink();
  ClusterLink(const ClusterLink&) = delete;
  ClusterLink& operator=(const ClusterLink&) = delete;

  // Before anything else.
  void Connect();
  // Lists and watches from now on.
  void Begin();
  // An answer was not what it should be: it is asked until it is. `watched`: the path of what somebody watches; if that
  // is refused, whether it still is is asked too.
  void Away(const Answer& answer, const std::string& watched = "");
  // Works for at most so long.
  void Poll(int millis);
  void Wake();
  // Any thread. What the configuration meant when it was first read; nothing: it could not be yet.
  std::optional<ClusterTarget> kept() const;

  // Can be asked, and all that is ours has been listed once.
  bool ready() const { return client_ != nullptr && healthy_ && listed_jobs_ && listed_pods_; }
  // Null: it is not known where the cluster is.
  Client* client() { return client_.get(); }
  const std::string& space() const { return space_; }
  const std::string& context() const { return context_; }
  const std::string& selector() const { return selector_; }
  std::string Jobs(absl::string_view name = "") const { return Objects(kind_.api_version, kind_.resource, name); }
  std::string Pods(absl::string_view name = "") const { return Path("/api/v1", "pods", name); }
  std::string Secrets(absl::string_view name = "") const { return Path("/api/v1", "secrets", name); }
  std::string Objects(absl::string_view api_version, absl::string_view resource, absl::string_view name = "") const {
    return Path(absl::StrCat("/apis/", api_version), resource, name);
  }
  std::string Events() const { return Path("/api/v1", "events", ""); }

 private:
  std::string Path(absl::string_view group, absl::string_view kind, absl::string_view name) const;
  void Try();
  void TryWatch();
  void OnTried(const Answer& answer);
  void Well();
  // `code`: of HTTP; another one than the last is news.
  void Unwell(std::string why, int code);
  Watch::Calls WatchCalls(bool pods);
  std::string Words(const Answer& answer) const;

  const Config* const config_;
  const JobKind& kind_;
  const std::string selector_;
  const Calls calls_;
  const Dial dial_;
  const int wake_fd_;
  mutable Mutex mutex_;
  std::optional<ClusterTarget> kept_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Client> client_;  // replaced under the mutex
  std::unique_ptr<Watch> jobs_, pods_;
  std::string known_as_;  // what the client was made of
  std::string server_, space_, context_;
  std::string no_cluster_;  // why the configuration does not say any more where it is; empty: it does
  bool begun_ = false;
  bool healthy_ = true;
  int unwell_code_ = 0;
  bool listed_jobs_ = false, listed_pods_ = false;
  bool trying_ = false;
  std::set<std::string> forbidden_;  // the paths of what may not be watched
  int tries_ = 0;
  int64_t well_at_ = 0;  // mono
  int64_t try_at_ = 0;   // mono; 0: it is not due
};

}  // namespace orch::kubernetes
