#include "backends/kubernetes/kubernetes_backend.h"

#include <utility>

#include "backends/kubernetes/cluster_link.h"
#include "backends/kubernetes/config.h"
#include "backends/kubernetes/job_kind.h"
#include "backends/kubernetes/pod_backend.h"
#include "backends/kubernetes/probe.h"
#include "server/base/status.h"

namespace orch {
namespace {

using kubernetes::Config;

class KubernetesBackend : public kubernetes::PodBackend {
 public:
  KubernetesBackend(BackendContext context, Config config)
      : PodBackend(std::move(context), std::move(config), &kubernetes::JobsOfKubernetes()) {}

  ProbeReport Probe() override {
    return kubernetes::ProbeCluster(
        {&kubernetes::JobsOfKubernetes(), kubernetes::RightsForJobs(), "", "", jobs_.link().kept()}, config_,
        context_.instance, context_.orchestrator);
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeKubernetesBackend(const BackendContext& context) {
  ASSIGN_OR_RETURN(Config config, kubernetes::ReadConfig(context.config_json));
  if (!context.registered) RETURN_IF_ERROR(kubernetes::FindCluster(config).status());
  return std::unique_ptr<Backend>(std::make_unique<KubernetesBackend>(context, std::move(config)));
}

FlavorInfo KubernetesFlavor() {
  FlavorInfo info;
  info.name = "kubernetes";
  info.description = "Jobs in a Kubernetes namespace, watched and not polled";
  info.units = {"step"};
  info.needs = "a cluster that a kubeconfig or a service account can reach";
  info.native = {"scheduling", "cancel", "live logs", "resource limits", "submit by name"};
  info.supplied = {"retries", "time-outs", "caching", "slots", "run page"};
  info.config_schema = kubernetes::ConfigSchema();
  info.settings_schema = kubernetes::SettingsSchema();
  info.make = MakeKubernetesBackend;
  return info;
}

}  // namespace orch
