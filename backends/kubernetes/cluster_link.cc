#include "backends/kubernetes/cluster_link.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/status.h"

namespace orch::kubernetes {
namespace {

constexpr int64_t kFirstTry = 500'000;
constexpr int64_t kLastTry = 10'000'000;
constexpr int64_t kBusy = 2'000'000;
constexpr int kTrySeconds = 10;
constexpr int kNoCluster = -1;  // instead of a code of HTTP
// So long it has to be well for the next fault to be a new one.
constexpr int64_t kLongWell = 30'000'000;

const char* Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<Cluster> InPod() {
  return ReadInCluster(Variable("KUBERNETES_SERVICE_HOST"), Variable("KUBERNETES_SERVICE_PORT"));
}

absl::StatusOr<Cluster> KeptCluster(const Config& config, const ClusterTarget& kept) {
  if (kept.in_pod) return InPod();
  absl::StatusOr<Cluster> found = ReadKubeconfig(
      config.kubeconfig.empty() ? DefaultKubeconfigFiles() : std::vector<std::string>{config.kubeconfig}, kept.context);
  if (!found.ok()) {
    if (!config.context.empty()) return found;
    return absl::Status(found.status().code(),
                        absl::StrCat(found.status().message(), "; this orchestrator keeps to context `", kept.context,
                                     "`, which was the current one when the daemon began with it: put it back"));
  }
  if (found->cluster == kept.cluster) return found;
  return Error(
      absl::StatusCode::kFailedPrecondition, "CLUSTER_CHANGED",
      absl::StrCat("context `", kept.context, "` of the kubeconfig means the cluster `", found->cluster,
                   "` now, and what runs here is on `", kept.cluster, "`: let it mean that again, and register ",
                   "another orchestrator for the other one; from its next start on the daemon takes it as it ",
                   "is then"));
}

}  // namespace

std::string MadeOf(const Cluster& cluster) {
  const ServerAddress& server = cluster.server;
  const Identity& who = cluster.identity;
  nlohmann::json all = {server.url,       server.ca_pem, server.tls_server_name, server.insecure,
                        server.proxy,     cluster.space, who.certificate_pem,    who.key_pem,
                        who.token_file,   who.token,     who.username,           who.password,
                        who.impersonation};
  if (who.exec) {
    const ExecPlugin& exec = *who.exec;
    all.push_back({exec.api_version, exec.command, exec.args, exec.env, exec.install_hint, exec.provide_cluster_info});
  }
  // What is no UTF-8 is told apart as well as the rest.
  std::vector<std::uint8_t> bytes = nlohmann::json::to_cbor(all);
  return std::string(bytes.begin(), bytes.end());
}

absl::StatusOr<Cluster> FindCluster(const Config& config, const std::optional<ClusterTarget>& kept) {
  absl::StatusOr<Cluster> found = absl::UnknownError("");
  if (kept) {
    found = KeptCluster(config, *kept);
    if (found.ok()) found->space = kept->space;
    return found;
  }
  if (!config.kubeconfig.empty()) {
    found = ReadKubeconfig({config.kubeconfig}, config.context);
  } else {
    found = ReadKubeconfig(DefaultKubeconfigFiles(), config.context);
    if (found.status().code() == absl::StatusCode::kNotFound && config.context.empty()) {
      absl::StatusOr<Cluster> own = InPod();
      if (own.ok()) found = std::move(own);
    }
  }
  if (found.ok() && !config.space.empty()) found->space = config.space;
  return found;
}

ClusterLink::ClusterLink(const Config* config, const JobKind* kind, std::string selector, Calls calls, Dial dial)
    : config_(config),
      kind_(*kind),
      selector_(std::move(selector)),
      calls_(std::move(calls)),
      dial_(std::move(dial)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(wake_fd_ >= 0);
}

ClusterLink::~ClusterLink() {
  jobs_.reset();
  pods_.reset();
  client_.reset();
  close(wake_fd_);
}

std::string ClusterLink::Path(absl::string_view group, absl::string_view kind, absl::string_view name) const {
  return absl::StrCat(group, "/namespaces/", UrlEscape(space_), "/", kind, name.empty() ? "" : "/", name);
}

Watch::Calls ClusterLink::WatchCalls(bool pods) {
  Watch::Calls calls;
  calls.listing = [this, pods] { calls_.listing(pods); };
  calls.seen = pods ? calls_.pod_seen : calls_.job_seen;
  calls.gone = pods ? calls_.pod_gone : calls_.job_gone;
  calls.listed = [this, pods] {
    (pods ? listed_pods_ : listed_jobs_) = true;
    calls_.listed(pods);
    if (listed_jobs_ && listed_pods_ && forbidden_.empty()) Well();
  };
  calls.failed = [this, pods](const Answer& answer) { Away(answer, pods ? Pods() : Jobs()); };
  return calls;
}

std::optional<ClusterTarget> ClusterLink::kept() const {
  MutexLock lock(&mutex_);
  return kept_;
}

// The kubeconfig is read again when it does not do any more: somebody may have renewed what is in it.
void ClusterLink::Connect() {
  const absl::StatusOr<Cluster> found = FindCluster(*config_, kept());
  no_cluster_ = found.ok() ? "" : std::string(found.status().message());
  if (!found.ok()) {
    if (client_ == nullptr) Unwell("", 0);  // else the former one may still do
    return;
  }
  {
    MutexLock lock(&mutex_);
    if (!kept_) kept_ = ClusterTarget{found->context, found->cluster, found->space, found->in_pod};
  }
  std::string made_of = MadeOf(*found);
  if (client_ != nullptr && made_of == known_as_) return;
  const bool again = client_ != nullptr;
  known_as_ = std::move(made_of);
  server_ = found->server.url;
  space_ = found->space;
  context_ = found->context;
  jobs_.reset();
  pods_.reset();
  std::unique_ptr<Client> client =
      dial_ ? dial_(*found)
            : std::make_unique<Client>(*found, std::make_unique<CurlTransport>(found->server), &Clock::Real(),
                                       static_cast<uint32_t>(Clock::Real().Now().mono));
  {
    MutexLock lock(&mutex_);
    client.swap(client_);
  }
  trying_ = false;
  if (again) calls_.anew();  // the former one is still there, so that what hangs on it can let go
  client.reset();
  jobs_ = std::make_unique<Watch>(client_.get(), Jobs(), selector_, WatchCalls(false));
  pods_ = std::make_unique<Watch>(client_.get(), Pods(), selector_, WatchCalls(true));
  if (!begun_) return;
  jobs_->Start();
  pods_->Start();
}

void ClusterLink::Begin() {
  begun_ = true;
  if (client_ == nullptr) return;
  jobs_->Start();
  pods_->Start();
}

std::string ClusterLink::Words(const Answer& answer) const {
  const std::string words = absl::StrCat("the API server at ", server_, ": ", answer.Words());
  if (answer.code == 401) return absl::StrCat(words, "; renew what the kubeconfig has of this user");
  if (answer.code == 403) return absl::StrCat(words, "; ", kind_.docs, " has the rights that are needed");
  return words;
}

void ClusterLink::Away(const Answer& answer, const std::string& watched) {
  if (!watched.empty() && (answer.code == 403 || answer.code == 404)) forbidden_.insert(watched);
  if (answer.code == 429) {  // busy, and there: what it has not answered is asked again in a while
    if (try_at_ == 0 && !trying_) try_at_ = Clock::Real().Now().mono + kBusy;
    return;
  }
  Unwell(Words(answer), answer.code);
}

void ClusterLink::Unwell(std::string why, int code) {
  if (!no_cluster_.empty()) {
    why = why.empty() ? no_cluster_ : absl::StrCat(no_cluster_, "; as it was read before: ", why);
    code = kNoCluster;
  }
  if (healthy_ && Clock::Real().Now().mono - well_at_ > kLongWell) tries_ = 0;
  if (try_at_ == 0 && !trying_) {
    const int64_t wait = std::min(kFirstTry << std::min(tries_++, 6), kLastTry);
    try_at_ = Clock::Real().Now().mono + wait;
  }
  const bool another = std::exchange(unwell_code_, code) != code && code != 0;
  if (std::exchange(healthy_, false) || another) calls_.told(false, why);
}

void ClusterLink::Try() {
  try_at_ = 0;
  Connect();
  if (client_ == nullptr) return;
  trying_ = true;
  Request request;
  request.path = absl::StrCat(forbidden_.empty() ? Jobs() : *forbidden_.begin(), "?limit=1");
  request.seconds = kTrySeconds;
  request.tries = 1;
  client_->Call(std::move(request), [this](const Answer& answer) {
    if (answer.ok() && !forbidden_.empty()) return TryWatch();
    OnTried(answer);
  });
}

void ClusterLink::TryWatch() {
  const std::string path = *forbidden_.begin();
  Request request;
  request.path = absl::StrCat(path, "?watch=1&timeoutSeconds=1&labelSelector=", UrlEscape(selector_));
  request.seconds = kTrySeconds;
  client_->Stream(
      std::move(request), [](absl::string_view) {},
      [this, path](const Answer& answer) {
        if (answer.ok()) forbidden_.erase(path);
        if (answer.ok() && !forbidden_.empty()) return Try();  // the next of them
        OnTried(answer);
      });
}

void ClusterLink::OnTried(const Answer& answer) {
  trying_ = false;
  if (!answer.ok() && answer.code != 429) return Unwell(Words(answer), answer.code);
  jobs_->Hurry();
  pods_->Hurry();
  // Until all was listed once, what is told of an end could be that of something that is still to be seen.
  if (!begun_ || (listed_jobs_ && listed_pods_)) Well();
}

void ClusterLink::Well() {
  try_at_ = 0;
  const bool news = !std::exchange(healthy_, true);
  if (news) well_at_ = Clock::Real().Now().mono;
  if (news) calls_.told(true, "");
  calls_.back();
}

void ClusterLink::Poll(int millis) {
  const int64_t now = Clock::Real().Now().mono;
  if (try_at_ > 0 && try_at_ <= now) Try();
  if (try_at_ > 0) millis = static_cast<int>(std::clamp<int64_t>((try_at_ - now) / 1000 + 1, 1, millis));
  if (client_ != nullptr) return client_->Poll(millis);
  pollfd wait = {wake_fd_, POLLIN, 0};
  (void)::poll(&wait, 1, millis);
  uint64_t count = 0;
  (void)!read(wake_fd_, &count, sizeof(count));
}

void ClusterLink::Wake() {
  MutexLock lock(&mutex_);
  if (client_ != nullptr) return client_->Wake();
  const uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof(one));
}

}  // namespace orch::kubernetes
