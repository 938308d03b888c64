// What the hands ask of the cluster.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/manifest.h"
#include "backends/tekton/pipeline_runs.h"
#include "backends/tekton/task_run.h"
#include "server/base/fault.h"
#include "server/base/log.h"

namespace orch::tekton {
namespace {

using kubernetes::Answer;
using nlohmann::json;

constexpr char kMergePatch[] = "application/merge-patch+json";
constexpr int64_t kAgain = 1'000'000;

std::string Dump(const json& object) { return object.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::vector<std::string> PipelineRuns::NativeRun(const RunOutline& outline) const {
  const RunFacts facts = {context_.instance, context_.orchestrator};
  return {Dump(SecretOf(outline, facts)), Dump(PipelineRunOf(outline, config_.pods, facts))};
}

// The Secret first, so that no pod waits for it.
void PipelineRuns::MakeRun(const std::string& run) {
  Making& making = making_.at(run);
  kubernetes::Client* client = jobs_.link().client();
  if (client == nullptr || std::exchange(making.asked, true)) return;
  const RunFacts facts = {context_.instance, context_.orchestrator, making.number};
  const std::string name = PipelineRunName(making.outline, making.number);
  const json secret = SecretOf(making.outline, facts);
  const std::string body = Dump(PipelineRunOf(making.outline, config_.pods, facts));
  const auto create = [this, run, body] {
    kubernetes::Request request{"POST", absl::StrCat(Path(), "?fieldManager=orchd&fieldValidation=Strict"), body};
    request.tries = 1;  // after an answer that was lost it is looked for
    ORCH_FAULT("tekton.create");
    jobs_.link().client()->Call(std::move(request), [this, run](const Answer& answer) {
      ORCH_FAULT("tekton.created");
      Made(run, answer);
    });
  };
  client->Call({"POST", jobs_.link().Secrets(), Dump(secret)}, [this, run, name, secret, create](const Answer& answer) {
    if (answer.ok()) return create();
    if (answer.reason != "AlreadyExists") return Refuse(run, answer);
    const json patch = {{"stringData", secret["stringData"]}};
    jobs_.link().client()->Call({"PATCH", jobs_.link().Secrets(name), Dump(patch), kMergePatch},
                                [this, run, create](const Answer& patched) {
                                  if (patched.ok()) return create();
                                  Refuse(run, patched);
                                });
  });
}

void PipelineRuns::Made(const std::string& run, const Answer& answer) {
  if (making_.count(run) == 0) return;
  if (answer.reason == "AlreadyExists") return LookAtTaken(run);
  if (!answer.ok()) return Refuse(run, answer);
  making_.erase(run);
  Take(answer.object);
  for (const std::string& key : KeysOf(run)) {
    const Attempt* attempt = Find(key);
    if (attempt != nullptr && attempt->in.empty()) Place(key);
  }
  RemoveReleased();
}

// There is one of its name: ours, of an answer that was lost, or one that is over, after which it is numbered.
void PipelineRuns::LookAtTaken(const std::string& run) {
  const Making& making = making_.at(run);
  kubernetes::Request request;
  request.path = Path(PipelineRunName(making.outline, making.number));
  jobs_.link().client()->Call(std::move(request), [this, run](const Answer& answer) {
    const auto found = making_.find(run);
    if (found == making_.end()) return;
    if (answer.ok()) {
      const PipelineRunView view = ReadPipelineRun(answer.object, jobs_.link().selector());
      if (view.ours && view.run_id == run && !view.over && !view.deleting) return Made(run, answer);
      ++found->second.number;
    } else if (answer.code != 404) {
      return Again(run, answer);
    }
    found->second.asked = false;
    MakeRun(run);
  });
}

void PipelineRuns::Again(const std::string& run, const Answer& answer) {
  const auto found = making_.find(run);
  if (found == making_.end()) return;
  found->second.asked = false;
  jobs_.link().Away(answer);
  jobs_.link().client()->After(kAgain, [this, run] {
    const auto still = making_.find(run);
    if (still != making_.end() && !still->second.asked) MakeRun(run);
  });
}

void PipelineRuns::Refuse(const std::string& run, const Answer& answer) {
  const auto found = making_.find(run);
  if (found == making_.end()) return;
  const bool for_now = answer.refused_for_now();
  // By its name it is made once, however often that is asked for.
  if ((answer.later() && !for_now) || answer.code == 401) return Again(run, answer);
  std::string words = answer.Words();
  if (answer.code == 403 && absl::StrContains(answer.message, "cannot ")) {
    absl::StrAppend(&words, "; docs/tekton.md has the rights that are needed");
  }
  const std::string secret = PipelineRunName(found->second.outline, found->second.number);
  making_.erase(found);
  jobs_.link().client()->Call({"DELETE", jobs_.link().Secrets(secret)}, [](const Answer&) {});
  for (const std::string& key : KeysOf(run)) {
    if (!Find(key)->in.empty()) continue;
    const bool accepted = Find(key)->accepted;
    if (accepted) {
      AttemptEnd end;
      end.reason = Reason::kSubmitRefused;
      end.message = words;
      end.never_started = true;
      End(key, std::move(end));
      continue;
    }
    attempts_.erase(key);
    jobs_.listener()->Refused(key, for_now, Reason::kSubmitRefused, words);
  }
}

// From now on the Secret goes with the run. Also of one that an earlier life of the daemon made, which may have been
// killed before it came to that.
void PipelineRuns::Own(const std::string& name, const std::string& uid) {
  const json patch = kubernetes::OwnerPatch(kApiVersion, "PipelineRun", name, uid);
  jobs_.link().client()->Call(
      {"PATCH", jobs_.link().Secrets(name), Dump(patch), kMergePatch}, [this, name](const Answer& answer) {
        if (answer.ok() || answer.code == 404) return;
        if (const auto found = natives_.find(name); found != natives_.end()) found->second.owns = false;
        Log(LogLevel::kWarning, "a Secret has no owner",
            {{"orchestrator", context_.orchestrator}, {"secret", name}, {"why", answer.Words()}});
      });
}

// --- cleaning up ---

void PipelineRuns::Remove(const std::string& name) {
  Native& native = natives_[name];
  kubernetes::Client* client = jobs_.link().client();
  if (native.removing || native.gone || client == nullptr) return;
  native.removing = true;
  const json options = {{"kind", "DeleteOptions"},
                        {"apiVersion", "v1"},
                        {"propagationPolicy", "Background"},
                        {"preconditions", {{"uid", native.view.uid}}}};
  client->Call({"DELETE", Path(name), Dump(options)}, [this, name](const Answer& answer) {
    if (answer.ok() || answer.code == 404 || answer.code == 409) return;
    natives_[name].removing = false;  // when it is back
    jobs_.link().Away(answer);
  });
}

void PipelineRuns::DeleteTaskRun(const kubernetes::JobView& task_run) {
  if (jobs_.link().client() == nullptr) return;
  const json options = {{"kind", "DeleteOptions"},
                        {"apiVersion", "v1"},
                        {"propagationPolicy", "Background"},
                        {"preconditions", {{"uid", task_run.uid}}}};
  jobs_.link().client()->Call({"DELETE", jobs_.link().Jobs(task_run.name), Dump(options)}, [](const Answer&) {});
}

void PipelineRuns::DeletePod(const std::string& place, int64_t grace_seconds,
                             std::function<void(const Answer&)> failed) {
  if (jobs_.link().client() == nullptr) return;
  const std::string name = PodOf(place);
  json options = {{"kind", "DeleteOptions"},
                  {"apiVersion", "v1"},
                  {"preconditions", {{"uid", place.substr(std::min(place.size(), name.size() + 1))}}}};
  if (grace_seconds >= 0) options["gracePeriodSeconds"] = grace_seconds;
  jobs_.link().client()->Call({"DELETE", jobs_.link().Pods(name), Dump(options)},
                              [this, name, failed = std::move(failed)](const Answer& answer) {
                                if (answer.ok() || answer.code == 404 || answer.code == 409) return;
                                Log(LogLevel::kWarning, "a pod cannot be deleted",
                                    {{"orchestrator", context_.orchestrator}, {"pod", name}, {"why", answer.Words()}});
                                if (failed) failed(answer);
                              });
}

}  // namespace orch::tekton
