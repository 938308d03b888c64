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
#include "backends/tekton/draining_logs.h"
#include "backends/tekton/pipeline_runs.h"
#include "backends/tekton/task.h"
#include "backends/tekton/task_run.h"
#include "server/base/status.h"

namespace orch {
namespace {

using tekton::Config;

std::vector<kubernetes::Right> Rights(bool whole_runs) {
  std::vector<kubernetes::Right> out;
  for (const char* verb : {"create", "get", "list", "watch", "delete"}) {
    if (!whole_runs) break;
    out.push_back({"tekton.dev", "pipelineruns", verb, true});
  }
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
      : PodBackend(std::move(context), config.pods, &tekton::TaskRuns()),
        tekton_(std::move(config)),
        runs_(&context_, &tekton_, &jobs_, &draining_) {
    jobs_.Attach(&runs_);
  }
  ~TektonBackend() override { Stop(); }  // before what its thread uses

  std::vector<std::string> NativeRun(const RunOutline& outline) const override { return runs_.NativeRun(outline); }
  bool takes_runs() const override { return tekton_.whole_runs; }
  std::string WhyNotWhole(const RunOutline& outline) const override { return tekton::WhyNotWhole(outline, config_); }

  void Submit(Unit unit) override {
    if (!unit.outline) return PodBackend::Submit(std::move(unit));
    for (AttemptWork& work : unit.attempts) {
      thread_.Post([this, work = std::move(work), outline = unit.outline] { runs_.Begin(work, outline); });
    }
  }
  std::string Began(absl::string_view key, absl::string_view place) override {
    thread_.Post([this, key = std::string(key), place = std::string(place)] { runs_.Began(key, place); });
    return tekton::PodOf(std::string(place));
  }
  void Cancel(absl::string_view key, CancelMode mode) override {
    thread_.Post([this, key = std::string(key), forced = mode == CancelMode::kForced] {
      if (!runs_.Has(key)) return jobs_.Cancel(key, forced);
      if (forced) runs_.Kill(key);  // its launcher is told else
    });
  }
  void Release(absl::string_view key) override {
    thread_.Post([this, key = std::string(key)] {
      if (!runs_.Has(key)) return jobs_.Forget(key);
      runs_.Forget(key);
    });
  }
  void Adopt(std::vector<KnownAttempt> attempts) override {
    thread_.Post([this, attempts = std::move(attempts)] {
      std::vector<KnownAttempt> steps;
      for (const KnownAttempt& known : attempts) {
        if (known.outline) {
          runs_.Adopt(known);
        } else {
          steps.push_back(known);
        }
      }
      jobs_.Adopt(steps);
    });
  }
  void KeepRuns(std::vector<std::string> run_ids) override {
    thread_.Post([this, run_ids = std::move(run_ids)] { runs_.KeepRuns(run_ids); });
  }
  void ReleaseRun(absl::string_view run_id) override {
    thread_.Post([this, run_id = std::string(run_id)] { runs_.ReleaseRun(run_id); });
  }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress& address, LogStreamName stream) override {
    draining_.Await(jobs_.LogPrefix(address));
    return PodBackend::OpenLog(address, stream);
  }

  ProbeReport Probe() override {
    kubernetes::ProbeSubject subject;
    subject.kind = &tekton::TaskRuns();
    subject.rights = Rights(tekton_.whole_runs);
    subject.kept = jobs_.link().kept();
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

 private:
  const Config tekton_;
  tekton::DrainingLogs draining_;
  tekton::PipelineRuns runs_;  // the thread's
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
  info.description = "Tekton PipelineRuns in a Kubernetes namespace, or a TaskRun for a step";
  info.units = {"run", "step"};
  info.needs = "a cluster with Tekton Pipelines 0.53 or later that a kubeconfig or a service account can reach";
  info.native = {"scheduling", "cancel", "live logs", "resource limits", "submit by name", "its dashboard"};
  info.supplied = {"retries", "time-outs", "caching", "slots", "run page without its dashboard"};
  info.config_schema = tekton::ConfigSchema();
  info.settings_schema = kubernetes::SettingsSchema();
  info.make = MakeTektonBackend;
  return info;
}

}  // namespace orch
