#include "backends/kubernetes/probe.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/manifest.h"
#include "server/base/clock.h"

namespace orch::kubernetes {

std::vector<Right> RightsForJobs() {
  return {
      {"batch", "jobs", "create", true}, {"batch", "jobs", "get", true},    {"batch", "jobs", "list", true},
      {"batch", "jobs", "watch", true},  {"batch", "jobs", "delete", true}, {"", "pods", "get", true},
      {"", "pods", "list", true},        {"", "pods", "watch", true},       {"", "pods", "delete", true},
      {"", "pods/log", "get", true},     {"", "secrets", "create", true},   {"", "secrets", "patch", true},
      {"", "secrets", "delete", true},   {"", "events", "list", false},
  };
}

namespace {

using nlohmann::json;

constexpr int64_t kLongest = 9'000'000;  // of all together
constexpr int kSeconds = 5;              // of one call

class Prober {
 public:
  explicit Prober(const Cluster& cluster)
      : client_(cluster, std::make_unique<CurlTransport>(cluster.server), &Clock::Real(), 1),
        until_(Clock::Real().Now().mono + kLongest) {}

  // All at once.
  std::vector<Answer> Ask(std::vector<Request> requests) {
    std::vector<Answer> out(requests.size());
    size_t open = requests.size();
    for (size_t i = 0; i < requests.size(); ++i) {
      out[i].message = "no answer in time";
      requests[i].tries = 1;
      requests[i].seconds = kSeconds;
      client_.Call(std::move(requests[i]), [&out, &open, i](Answer answer) {
        out[i] = std::move(answer);
        --open;
      });
    }
    while (open > 0 && Clock::Real().Now().mono < until_) client_.Poll(100);
    return out;
  }

 private:
  Client client_;
  const int64_t until_;
};

Request ReviewOf(const Right& right, const std::string& space) {
  const std::vector<std::string> parts = absl::StrSplit(right.resource, '/');
  json attributes = {{"namespace", space}, {"verb", right.verb}, {"group", right.group}, {"resource", parts[0]}};
  if (parts.size() > 1) attributes["subresource"] = parts[1];
  const json review = {{"apiVersion", "authorization.k8s.io/v1"},
                       {"kind", "SelfSubjectAccessReview"},
                       {"spec", {{"resourceAttributes", attributes}}}};
  return {"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review.dump()};
}

std::string Text(const json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// What a SelfSubjectAccessReview says.
bool IsAllowed(const json& review) {
  const auto status = review.find("status");
  if (status == review.end() || !status->is_object()) return false;
  const auto allowed = status->find("allowed");
  return allowed != status->end() && *allowed == true;
}

void CheckRights(Prober& prober, const ProbeSubject& subject, const std::string& space, ProbeReport* report) {
  std::vector<Request> requests;
  for (const Right& right : subject.rights) requests.push_back(ReviewOf(right, space));
  const std::vector<Answer> answers = prober.Ask(std::move(requests));
  std::vector<std::string> missing;
  std::vector<std::string> wanted;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answer& answer = answers[i];
    if (!answer.ok()) {
      report->checks.push_back({"rights", false, absl::StrCat("what may be done cannot be asked: ", answer.Words()),
                                "let the account create selfsubjectaccessreviews, as everybody may by default"});
      return;
    }
    if (IsAllowed(answer.object)) continue;
    const Right& right = subject.rights[i];
    (right.needed ? missing : wanted).push_back(absl::StrCat(right.verb, " ", right.resource));
  }
  if (!missing.empty()) {
    report->checks.push_back(
        {"rights", false, absl::StrCat("in namespace ", space, " this account may not ", absl::StrJoin(missing, ", ")),
         absl::StrCat("give it the Role of ", subject.kind->docs)});
    return;
  }
  report->checks.push_back({"rights", true,
                            wanted.empty() ? "all that is needed"
                                           : absl::StrCat("all that is needed; without ", absl::StrJoin(wanted, ", "),
                                                          " less is said of steps that do not begin"),
                            ""});
}

}  // namespace

ProbeReport ProbeCluster(const ProbeSubject& subject, const Config& config, const std::string& instance,
                         const std::string& orchestrator) {
  ProbeReport report;
  const absl::StatusOr<Cluster> cluster = FindCluster(config, subject.kept);
  if (!cluster.ok()) {
    report.checks.push_back(
        {"kubeconfig", false, std::string(cluster.status().message()),
         "name a kubeconfig that is there with `kubeconfig`, and one of its contexts with `context`"});
    return report;
  }
  Prober prober(*cluster);
  const std::string& space = cluster->space;
  Request list;
  list.path =
      absl::StrCat("/apis/", subject.kind->api_version, "/namespaces/", UrlEscape(space), "/", subject.kind->resource,
                   "?limit=1&labelSelector=", UrlEscape(LabelSelector(instance, orchestrator)));
  const std::vector<Answer> answers = prober.Ask({{"GET", "/version"}, list});
  const Answer& version = answers[0];
  if (!version.ok() && version.code != 403) {
    const std::string words = absl::StrCat("the API server at ", cluster->server.url, ": ", version.Words());
    report.checks.push_back({"server", false, words,
                             version.code == 401 ? "renew what the kubeconfig has of this user"
                                                 : "see that the cluster runs and can be reached from here"});
    return report;
  }
  report.checks.push_back(
      {"server", true,
       absl::StrCat(version.ok() ? Text(version.object, "gitVersion") : "of a version that it does not tell", " at ",
                    cluster->server.url, ", context ", cluster->context),
       ""});
  if (answers[1].code == 404 && !subject.absent.empty()) {
    report.checks.push_back({"kind", false, subject.absent, subject.absent_fix});
    return report;
  }
  if (!answers[1].ok() && answers[1].code != 403) {
    report.checks.push_back({"server", false,
                             absl::StrCat("the API server at ", cluster->server.url, ": ", answers[1].Words()),
                             answers[1].code == 401 ? "renew what the kubeconfig has of this user"
                                                    : "see that the cluster runs and can be reached from here"});
    return report;
  }
  report.checks.push_back({"namespace", true, space, ""});
  CheckRights(prober, subject, space, &report);
  const std::string image = config.image.empty() ? "each step names its own" : config.image;
  report.checks.push_back(
      {"images", true,
       absl::StrCat("steps: ", image, "; the launcher: ",
                    config.launcher_image.empty() ? absl::StrCat(config.launcher_path, " of the step's image")
                                                  : absl::StrCat(config.launcher_path, " of ", config.launcher_image)),
       ""});
  return report;
}

}  // namespace orch::kubernetes
