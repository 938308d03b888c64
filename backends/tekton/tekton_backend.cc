#include "backends/tekton/tekton_backend.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/manifest.h"
#include "backends/kubernetes/pod_backend.h"
#include "backends/kubernetes/probe.h"
#include "backends/tekton/config.h"
#include "backends/tekton/task.h"
#include "backends/tekton/task_run.h"
#include "server/base/status.h"

namespace orch {
namespace {

using tekton::Config;

std::vector<kubernetes::Right> Rights() {
  std::vector<kubernetes::Right> out;
  for (const char* verb : {"create", "get", "list", "watch", "patch", "delete"}) {
    out.push_back({"tekton.dev", "taskruns", verb, true});
  }
  for (const kubernetes::Right& right : kubernetes::RightsForJobs()) {
    if (std::string(right.resource) != "jobs") out.push_back(right);
  }
  return out;
}

class TektonBackend : public kubernetes::PodBackend {
 public:
  TektonBackend(BackendContext context, Config config)
      : PodBackend(std::move(context), std::move(config.pods), &tekton::TaskRuns()) {}

  ProbeReport Probe() override {
    kubernetes::ProbeSubject subject;
    subject.kind = &tekton::TaskRuns();
    subject.rights = Rights();
    subject.absent = "Tekton Pipelines is not installed in this cluster: it knows no TaskRuns of tekton.dev/v1";
    subject.absent_fix = "install Tekton Pipelines 0.53 or later, or use the flavor kubernetes";
    return kubernetes::ProbeCluster(subject, config_, context_.instance, context_.orchestrator);
  }

  std::vector<std::string> Check(const Resources&, absl::string_view settings_json) const override {
    std::vector<Violation> faults;
    kubernetes::JobFacts facts;
    facts.settings = kubernetes::ReadSettings(config_.settings, settings_json, &faults);
    if (faults.empty()) {
      nlohmann::json pod = kubernetes::PodTemplateOf(AttemptWork(), config_, facts);
      kubernetes::PatchPod(facts.settings, &pod);
      (void)tekton::TaskOf(pod, &faults);
    }
    return kubernetes::FaultWords(faults);
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeTektonBackend(const BackendContext& context) {
  ASSIGN_OR_RETURN(Config config, tekton::ReadConfig(context.config_json));
  if (!context.registered) RETURN_IF_ERROR(kubernetes::FindCluster(config.pods).status());
  return std::unique_ptr<Backend>(std::make_unique<TektonBackend>(context, std::move(config)));
}

FlavorInfo TektonFlavor() {
  FlavorInfo info;
  info.name = "tekton";
  info.description = "Tekton TaskRuns in a Kubernetes namespace, one for a step";
  info.units = {"step"};
  info.needs = "a cluster with Tekton Pipelines 0.53 or later that a kubeconfig or a service account can reach";
  info.native = {"scheduling", "cancel", "live logs", "resource limits", "submit by name", "its dashboard"};
  info.supplied = {"retries", "time-outs", "caching", "slots", "run page without its dashboard"};
  info.config_schema = tekton::ConfigSchema();
  info.settings_schema = kubernetes::SettingsSchema();
  info.make = MakeTektonBackend;
  return info;
}

}  // namespace orch
