// What the hands ask of the cluster.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/jobs.h"
#include "backends/kubernetes/manifest.h"
#include "server/base/fault.h"
#include "server/base/log.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr char kMergePatch[] = "application/merge-patch+json";

std::string Dump(const json& object) { return object.dump(-1, ' ', false, json::error_handler_t::replace); }

// In words for people, with what to do.
std::string Refusal(const Answer& answer, const std::string& docs) {
  const std::string words = answer.Words();
  if (answer.code == 403 && absl::StrContains(answer.message, "cannot ")) {
    return absl::StrCat(words, "; ", docs, " has the rights that are needed");
  }
  return words;
}

CallAnswer Told(const Answer& answer, const std::string& docs) {
  CallAnswer out;
  out.code = answer.code;
  out.unheard = answer.unheard;
  out.exists = answer.reason == "AlreadyExists";
  out.words = Refusal(answer, docs);
  out.for_now = answer.refused_for_now();
  return out;
}

}  // namespace

void Jobs::Make(const std::string& key) {
  const Job& job = jobs_.at(key);
  if (link_.client() == nullptr) return;
  if (job.work.image.empty() && config_->image.empty()) {  // the orchestrator's was taken away meanwhile
    return Refuse(key, false, Reason::kSubmitRefused, "neither the step nor its orchestrator has an image");
  }
  kind_.secret_after ? MakeJob(key) : MakeSecret(key);
}

JobFacts Jobs::FactsOf(const AttemptWork& work) const {
  JobFacts facts;
  facts.instance = context_->instance;
  facts.orchestrator = context_->orchestrator;
  facts.image = work.image.empty() ? config_->image : work.image;
  std::vector<Violation> faults;  // none: they were refused at submit
  facts.settings = ReadSettings(config_->settings, work.settings_json, &faults);
  return facts;
}

std::vector<std::string> Jobs::Native(const AttemptWork& work) const {
  const JobFacts facts = FactsOf(work);
  std::vector<std::string> out = {Dump(kind_.make(work, *config_, facts))};
  json secret = SecretOf(work, facts);
  for (json& value : secret["stringData"]) value = kSecretShown;
  if (!secret["stringData"].empty()) out.insert(kind_.secret_after ? out.end() : out.begin(), Dump(secret));
  return out;
}

// First, where a pod does not wait for it. One that is there already was made by this attempt, whose answer was lost.
void Jobs::MakeSecret(const std::string& key) {
  if (secrets_going_.count(key) > 0) return;  // once it is gone
  Job& job = jobs_.at(key);
  const json secret = SecretOf(job.work, FactsOf(job.work));
  if (secret["stringData"].empty()) return MakeJob(key);
  job.secret = true;
  const auto made = [this, key](const Answer& answer) {
    Job* j = Find(key);
    if (j == nullptr || j->life.phase() != Phase::kMaking) return;
    if (answer.ok()) return MakeJob(key);
    if (answer.reason == "AlreadyExists") {
      const json patch = {{"stringData", SecretOf(j->work, FactsOf(j->work))["stringData"]}};
      link_.client()->Call({"PATCH", link_.Secrets(j->name), Dump(patch), kMergePatch},
                           [this, key](const Answer& patched) {
                             Job* k = Find(key);
                             if (k == nullptr || k->life.phase() != Phase::kMaking) return;
                             if (patched.ok()) return MakeJob(key);
                             NotMade(key, patched);
                           });
      return;
    }
    NotMade(key, answer);
  };
  ORCH_FAULT("kubernetes.secret");
  link_.client()->Call({"POST", link_.Secrets(), Dump(secret)}, made);
}

// Its Secret could not be had: certainly there is no Job.
void Jobs::NotMade(const std::string& key, const Answer& answer) {
  CallAnswer told = Told(answer, kind_.docs);
  if (told.code == 0 || told.code >= 500) {
    if (told.code == 0) {
      told.unheard = true;
    } else {
      told.for_now = true;
    }
  }
  told.exists = false;
  Do(key, jobs_.at(key).life.Made(told, JobView()));
  if (answer.code == 0 || answer.code == 401) link_.Away(answer);
}

void Jobs::MakeJob(const std::string& key) {
  Job& job = jobs_.at(key);
  if (kind_.secret_after && !job.secret) {
    job.secret_due = job.secret = !SecretOf(job.work, FactsOf(job.work))["stringData"].empty();
    job.owned = true;
  }
  if (job.life.cancelled()) {  // nothing was made
    Move move;
    move.what = Move::Do::kEndUnstarted;
    return Do(key, move);
  }
  Request request{"POST", absl::StrCat(link_.Jobs(), "?fieldManager=orchd&fieldValidation=Strict"),
                  Dump(kind_.make(job.work, *config_, FactsOf(job.work)))};
  request.tries = 1;  // after an answer that was lost it is looked for
  ORCH_FAULT("kubernetes.create");
  link_.client()->Call(std::move(request), [this, key](const Answer& answer) {
    for (const std::string& warning : answer.warnings) {
      Log(LogLevel::kWarning, "the API server warns",
          {{"orchestrator", context_->orchestrator}, {"key", key}, {"warning", warning}});
    }
    if (Find(key) == nullptr) return;  // it was released meanwhile; what was made is nobody's
    const JobView view = answer.ok() ? kind_.read(answer.object, link_.selector()) : JobView();
    if (answer.ok() && RemoveLate(key, view)) return;
    const auto made = [this, key, view, told = Told(answer, kind_.docs)] {
      ORCH_FAULT("kubernetes.created");
      Do(key, jobs_.at(key).life.Made(told, view));
    };
    if (answer.ok()) return Complete(key, view, made);
    made();
    if (answer.code == 0 || answer.code == 401) link_.Away(answer);
  });
}

// What is there has its Secret, or gets it: then `then`, and after it what was told of the Job meanwhile.
void Jobs::Complete(const std::string& key, const JobView& view, std::function<void()> then) {
  const Job& job = jobs_.at(key);
  if (!job.secret_due) return then();
  // What is in it only a submission has; whoever does not have it sees by the same call whether it is there.
  CompleteBy(key, view, /*make=*/!job.work.env.empty(), std::move(then));
}

// The Secret as the Job's own. One that is there already is of an answer that was lost.
void Jobs::CompleteBy(const std::string& key, const JobView& view, bool make, std::function<void()> then) {
  if (link_.client() == nullptr) return;
  Job& job = jobs_.at(key);
  job.completing = true;
  const bool blind = job.work.env.empty();
  json secret = OwnerPatch(kind_.api_version, kind_.word, view.name, view.uid);
  if (make) secret.merge_patch(SecretOf(job.work, FactsOf(job.work)));
  Request request{"PATCH", link_.Secrets(view.name), Dump(secret), kMergePatch};
  if (make) request = {"POST", link_.Secrets(), Dump(secret)};
  request.first = true;  // its pod may be in the making
  ORCH_FAULT("kubernetes.secret");
  link_.client()->Call(std::move(request),
                       [this, key, view, make, blind, then = std::move(then)](const Answer& answer) {
                         Job* j = Find(key);
                         if (j == nullptr || (blind && !j->work.env.empty()))
                           return;  // it was released, or submitted again
                         j->completing = false;
                         if (!j->secret_due) return then();  // somebody else has asked, too
                         if (make && answer.reason == "AlreadyExists")
                           return CompleteBy(key, view, /*make=*/false, then);
                         if (!answer.ok()) return NotComplete(key, view, answer);
                         j->secret_due = false;
                         const std::optional<JobView> early = std::exchange(j->seen_early, std::nullopt);
                         then();
                         j = Find(key);
                         if (j != nullptr && early && early->uid == view.uid) Do(key, j->life.SeenJob(*early));
                       });
}

void Jobs::NotComplete(const std::string& key, const JobView& view, const Answer& answer) {
  Job& job = jobs_.at(key);
  if (answer.code == 404 && job.work.env.empty()) {  // it is submitted again, finds its Job there, and completes it
    incomplete_[key] = view;
    jobs_.erase(key);
    return listener_->NotFound(key);
  }
  const CallAnswer told = Told(answer, kind_.docs);
  if (told.code == 0 || told.code == 401 || told.code == 404 || told.code >= 500) {
    job.look_again = true;
    return link_.Away(answer);
  }
  // Without it nothing begins: the Job is taken back.
  DeleteJob(view.name, view.uid, [this, key, told](const Answer& deleted) {
    Job* j = Find(key);
    if (j == nullptr) return;
    if (deleted.ok() || deleted.code == 404 || deleted.code == 409) {
      return Refuse(key, told.for_now, Reason::kSubmitRefused, told.words);
    }
    j->look_again = true;
    link_.Away(deleted);
  });
}

// From now on the Secret goes with the Job.
void Jobs::Own(const std::string& key) {
  const Job& job = jobs_.at(key);
  if (!job.secret || job.owned || link_.client() == nullptr) return;
  link_.client()->Call({"PATCH", link_.Secrets(job.name),
                        Dump(OwnerPatch(kind_.api_version, kind_.word, job.name, job.life.uid())), kMergePatch},
                       [this, key](const Answer& answer) {
                         Job* j = Find(key);
                         if (j == nullptr) return;
                         j->owned = answer.ok();
                         if (answer.ok() || answer.code == 404) return;
                         Log(LogLevel::kWarning, "a Secret has no owner, so it is removed with its attempt",
                             {{"orchestrator", context_->orchestrator}, {"secret", j->name}, {"why", answer.Words()}});
                       });
}

// The Job, which gets its Secret, and then its pods: what is known then is all there is.
void Jobs::Look(const std::string& key) {
  Job& job = jobs_.at(key);
  job.look_again = link_.client() == nullptr;
  if (job.look_again || std::exchange(job.looking, true)) return;
  job.life.Looks();
  Request request;
  request.path = link_.Jobs(job.name);
  link_.client()->Call(std::move(request), [this, key](const Answer& answer) {
    Job* j = Find(key);
    if (j == nullptr) return;
    CallAnswer told = Told(answer, kind_.docs);
    std::optional<JobView> seen;
    if (answer.ok()) {
      seen = kind_.read(answer.object, link_.selector());
      seen->ours = seen->ours && seen->key == key;
    }
    j->looking = false;
    if (answer.ok() || answer.code == 404) {
      const auto pods = [this, key, told, seen] { LookAtPods(key, told, seen); };
      return seen && seen->ours ? Complete(key, *seen, pods) : pods();
    }
    Do(key, j->life.Looked(told, seen, std::nullopt, link_.client()->now()));
    link_.Away(answer);
  });
}

void Jobs::LookAtPods(const std::string& key, const CallAnswer& found, const std::optional<JobView>& job) {
  if (std::exchange(jobs_.at(key).looking, true)) return;  // somebody has begun anew meanwhile
  Request request;
  request.path = absl::StrCat(link_.Pods(),
                              "?labelSelector=", UrlEscape(absl::StrCat(link_.selector(), ",", kKeyLabel, "=", key)));
  link_.client()->Call(std::move(request), [this, key, found, job](Answer answer) {
    Job* j = Find(key);
    if (j == nullptr) return;
    j->looking = false;
    std::optional<std::vector<PodView>> pods;
    const auto items = answer.object.is_object() ? answer.object.find("items") : answer.object.end();
    if (answer.ok() && items != answer.object.end() && (items->is_array() || items->is_null())) {
      pods.emplace();
      for (const json& pod : *items) pods->push_back(ReadPod(pod, kind_.pod));
    } else if (answer.ok()) {
      answer.code = 0;
      answer.message = "what should be the pods is no list; is this an API server?";
    }
    Do(key, j->life.Looked(found, job, pods, link_.client()->now()));
    if (!pods) link_.Away(answer);
  });
}

// --- stopping and cleaning up ---

void Jobs::Stop(const std::string& key) {
  Job& job = jobs_.at(key);
  if (link_.client() == nullptr || job.life.phase() != Phase::kLive) return;
  const std::optional<PodView>& pod = job.life.pod();
  const bool has_pod = pod && !job.life.pod_gone();
  if (job.forced && has_pod && !std::exchange(job.kill_sent, true)) {
    DeletePod(pod->name, pod->uid, 1, [this, key](const Answer& answer) {
      if (Job* j = Find(key); j != nullptr) j->kill_sent = false;  // when it is back
      link_.Away(answer);
    });
  }
  if (std::exchange(job.stop_sent, true)) return;
  if (job.life.job_gone()) {
    if (!has_pod || pod->deleting) return;
    return DeletePod(pod->name, pod->uid, -1, [this, key](const Answer& answer) {
      if (Job* j = Find(key); j != nullptr) j->stop_sent = false;  // when it is back
      link_.Away(answer);
    });
  }
  ORCH_FAULT("kubernetes.delete");
  if (!kind_.stop_patch.empty()) return StopJob(key);
  DeleteJob(job.name, job.life.uid(), [this, key](const Answer& answer) {
    if (!answer.ok() && Find(key) != nullptr) NotStopped(key, answer);
  });
}

// Its maker ends it. Its pod is told by us, with the grace that the step has.
void Jobs::StopJob(const std::string& key) {
  const Job& job = jobs_.at(key);
  const std::optional<PodView>& pod = job.life.pod();
  if (pod && !job.life.pod_gone() && !pod->deleting && !job.forced) {
    DeletePod(pod->name, pod->uid, GraceSeconds(job.work.grace_micros));
  }
  link_.client()->Call({"PATCH", link_.Jobs(job.name), kind_.stop_patch, kMergePatch},
                       [this, key](const Answer& answer) {
                         // It refuses to change one that has ended.
                         if (answer.ok() || answer.code == 400 || Find(key) == nullptr) return;
                         NotStopped(key, answer);
                       });
}

// It is asked again: at once of what is there then, else when the cluster is back.
void Jobs::NotStopped(const std::string& key, const Answer& answer) {
  Job& job = jobs_.at(key);
  const bool another = answer.code == 404 || answer.code == 409;
  // One whose answer was lost may have come to pass, and is repeated by the client.
  job.stop_unknown = job.stop_unknown || another || (answer.code == 0 && !answer.unheard);
  job.stop_sent = false;
  if (another) return Look(key);
  job.kill_sent = false;
  link_.Away(answer);
}

void Jobs::DeleteJob(const std::string& name, const std::string& uid, std::function<void(const Answer&)> done) {
  if (link_.client() == nullptr) return;
  // Without the policy its pods would run on.
  const json options = {{"kind", "DeleteOptions"},
                        {"apiVersion", "v1"},
                        {"propagationPolicy", "Background"},
                        {"preconditions", {{"uid", uid}}}};
  link_.client()->Call({"DELETE", link_.Jobs(name), Dump(options)}, std::move(done));
}

void Jobs::DeletePod(const std::string& name, const std::string& uid, int64_t grace_seconds,
                     std::function<void(const Answer&)> failed) {
  if (link_.client() == nullptr) return;
  json options = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"preconditions", {{"uid", uid}}}};
  if (grace_seconds >= 0) options["gracePeriodSeconds"] = grace_seconds;
  link_.client()->Call(
      {"DELETE", link_.Pods(name), Dump(options)}, [this, name, failed = std::move(failed)](const Answer& answer) {
        if (answer.ok() || answer.code == 404 || answer.code == 409) return;
        Log(LogLevel::kWarning, "a pod cannot be deleted",
            {{"orchestrator", context_->orchestrator}, {"pod", name}, {"why", Refusal(answer, kind_.docs)}});
        if (failed) failed(answer);
      });
}

void Jobs::DeleteSecret(const std::string& key, const std::string& name) {
  if (link_.client() == nullptr || !secrets_going_.insert(key).second) return;
  link_.client()->Call({"DELETE", link_.Secrets(name)}, [this, key, name](const Answer& answer) {
    secrets_going_.erase(key);
    // The attempt may have come again meanwhile.
    if (const Job* job = Find(key); job != nullptr && job->life.phase() == Phase::kMaking) MakeSecret(key);
    if (answer.ok() || answer.code == 404) return;
    Log(LogLevel::kWarning, "a Secret of an attempt cannot be removed",
        {{"orchestrator", context_->orchestrator}, {"secret", name}, {"why", Refusal(answer, kind_.docs)}});
  });
}

}  // namespace orch::kubernetes
