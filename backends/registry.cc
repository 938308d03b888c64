// The one list of flavors. A flavor that is not in this build has a row without `make`: people see what will come and
// get a clear refusal instead of "unknown".
#include "backends/api/registry.h"

#include <utility>

#include "backends/docker/docker_backend.h"
#include "backends/fake/fake_backend.h"
#include "backends/kubernetes/kubernetes_backend.h"
#include "backends/local/local_backend.h"
#include "backends/tekton/tekton_backend.h"

namespace orch {
namespace {

using Words = std::vector<std::string>;

FlavorInfo Absent(std::string name, std::string description, Words units, std::string needs, Words native,
                  Words supplied) {
  FlavorInfo flavor;
  flavor.name = std::move(name);
  flavor.description = std::move(description);
  flavor.units = std::move(units);
  flavor.needs = std::move(needs);
  flavor.native = std::move(native);
  flavor.supplied = std::move(supplied);
  return flavor;
}

std::vector<FlavorInfo> AllFlavors() {
  std::vector<FlavorInfo> flavors;
  flavors.push_back(LocalFlavor());
  flavors.push_back(DockerFlavor());
  flavors.push_back(KubernetesFlavor());
  flavors.push_back(Absent(
      "kubeflow", "Kubeflow Pipelines through its v2beta1 API", {"run"}, "a Kubeflow Pipelines server 2.0.5 or later",
      {"scheduling", "cancel of a run", "its own run page"}, {"retries", "time-outs", "caching", "submit once"}));
  flavors.push_back(Absent("vertex", "Vertex AI pipeline jobs; a single step as a job with one task", {"run", "step"},
                           "a Google Cloud project with Vertex AI and credentials for it",
                           {"scheduling", "cancel", "submit by id", "its own run page"},
                           {"retries", "time-outs", "caching", "fencing of repeated tasks"}));
  flavors.push_back(Absent("sagemaker", "SageMaker pipelines, or processing and training jobs", {"run", "step"},
                           "an AWS account with SageMaker, an execution role and credentials",
                           {"scheduling", "cancel", "time-outs of jobs", "submit by name", "its own run page"},
                           {"retries", "caching", "slots"}));
  flavors.push_back(Absent("azureml", "Azure Machine Learning pipeline jobs or command jobs", {"run", "step"},
                           "an Azure ML workspace, a compute target and credentials",
                           {"scheduling", "cancel", "submit by name", "its own run page"},
                           {"retries", "time-outs", "caching", "order without data"}));
  flavors.push_back(TektonFlavor());
  flavors.push_back(Absent("airflow", "a generated DAG on an Airflow deployment", {"run"},
                           "Airflow 3 (REST v2) or 2 (REST v1) and a DAG folder that the daemon can write",
                           {"scheduling", "cancel of a run", "submit by id", "its own run page"},
                           {"retries", "time-outs", "caching"}));
  const Words vm_native = {"machines", "cancel", "live logs"};
  const Words vm_supplied = {"retries", "time-outs", "caching", "run page", "submit once"};
  flavors.push_back(Absent("vm_aws", "virtual machines on AWS through a SkyPilot API server", {"step"},
                           "a SkyPilot API server (protocol 24 or later) that has AWS credentials", vm_native,
                           vm_supplied));
  flavors.push_back(Absent("vm_gcp", "virtual machines on Google Cloud through a SkyPilot API server", {"step"},
                           "a SkyPilot API server (protocol 24 or later) that has Google Cloud credentials", vm_native,
                           vm_supplied));
  flavors.push_back(Absent("vm_azure", "virtual machines on Azure through a SkyPilot API server", {"step"},
                           "a SkyPilot API server (protocol 24 or later) that has Azure credentials", vm_native,
                           vm_supplied));
  flavors.push_back(Absent("hyperai", "containers on a GPU host, its Docker engine reached through SSH", {"step"},
                           "SSH access to a Linux host with Docker and the host's key",
                           {"cancel", "live logs", "resource limits", "submit by name"},
                           {"retries", "time-outs", "caching", "slots", "run page"}));
  flavors.push_back(Absent("custom", "the mechanism for plug-ins; each brings a flavor under its own name", {"step"},
                           "a plug-in: orchctl register-flavor PATH brings its flavor under its own name",
                           {"what the plug-in says"}, {"what the plug-in lacks"}));
  flavors.push_back(FakeFlavor());
  return flavors;
}

}  // namespace

const std::vector<FlavorInfo>& Flavors() {
  static const auto* const kFlavors = new std::vector<FlavorInfo>(AllFlavors());
  return *kFlavors;
}

const FlavorInfo* FindFlavor(absl::string_view name) {
  for (const FlavorInfo& flavor : Flavors()) {
    if (flavor.name == name) return &flavor;
  }
  return nullptr;
}

}  // namespace orch
