#include "backends/tekton/pipeline_runs.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backends/kubernetes/job_end.h"
#include "backends/kubernetes/job_life.h"
#include "backends/kubernetes/manifest.h"
#include "backends/tekton/task_run.h"
#include "server/base/clock.h"
#include "server/base/log.h"

namespace orch::tekton {
namespace {

using kubernetes::Answer;
using kubernetes::JobLog;
using kubernetes::PodView;
using nlohmann::json;

constexpr char kRuns[] = "pipelineruns";
constexpr int kMostMoves = 3;
// So long what is left of a log is waited for once the daemon knows of the end.
constexpr int64_t kLongestDrain = 30'000'000;
// Pods and TaskRuns are told of by two streams, neither of which waits for the other.
constexpr int64_t kOtherStream = 2'000'000;

std::string Label(const json& object, const char* name) {
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return "";
  const auto labels = metadata->find("labels");
  if (labels == metadata->end() || !labels->is_object()) return "";
  const auto found = labels->find(name);
  return found != labels->end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

PipelineRuns::PipelineRuns(const BackendContext* context, const Config* config, kubernetes::Jobs* jobs,
                           DrainingLogs* draining)
    : context_(*context), config_(*config), jobs_(*jobs), draining_(*draining) {}

std::string PipelineRuns::Path(const std::string& name) const { return jobs_.link().Objects(kApiVersion, kRuns, name); }

PipelineRuns::Attempt* PipelineRuns::Find(const std::string& key) {
  const auto found = attempts_.find(key);
  return found == attempts_.end() ? nullptr : &found->second;
}

std::vector<std::string> PipelineRuns::KeysIn(const std::string& native) const {
  std::vector<std::string> keys;
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.in == native) keys.push_back(key);
  }
  return keys;
}

std::vector<std::string> PipelineRuns::KeysOf(const std::string& run) const {
  std::vector<std::string> keys;
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.run == run) keys.push_back(key);
  }
  return keys;
}

bool PipelineRuns::ready() const { return listed_ && jobs_.link().ready(); }

// --- what the daemon says ---

void PipelineRuns::Begin(const AttemptWork& work, Outline outline) {
  const std::string& key = work.name.key;
  const auto [it, fresh] = attempts_.try_emplace(key);
  Attempt& attempt = it->second;
  if (!fresh) {  // what is known of it
    if (attempt.accepted) jobs_.listener()->Accepted(key, attempt.in, attempt.in, "");
    if (attempt.end.has_value()) jobs_.listener()->Ended(key, *attempt.end);
    return;
  }
  attempt.name = work.name;
  attempt.outline = std::move(outline);
  attempt.run = kubernetes::LabelValue(work.name.run_id);
  attempt.log_prefix = jobs_.LogPrefix(work.name);
  attempt.memory = work.resources.memory;
  attempt.log_limit = work.log_limit_bytes;
  kept_.insert(attempt.run);
  released_.erase(attempt.run);
  Place(key);
}

void PipelineRuns::Adopt(const KnownAttempt& known) {
  const std::string& key = known.name.key;
  if (known.handle.empty()) return jobs_.listener()->NotFound(key);  // then it is submitted again, and looked for
  const auto [it, fresh] = attempts_.try_emplace(key);
  if (!fresh) return;
  Attempt& attempt = it->second;
  attempt.name = known.name;
  attempt.outline = known.outline;
  attempt.run = kubernetes::LabelValue(known.name.run_id);
  attempt.log_prefix = jobs_.LogPrefix(known.name);
  attempt.log_limit = known.log_limit_bytes;
  attempt.in = known.handle;
  attempt.place = known.place;
  attempt.accepted = attempt.adopted = true;
  kept_.insert(attempt.run);
  if (ready()) Check(key);
}

void PipelineRuns::Began(const std::string& key, const std::string& place) {
  Attempt* attempt = Find(key);
  if (attempt == nullptr || attempt->over) return;
  attempt->place = place;
  Check(key);
}

void PipelineRuns::Kill(const std::string& key) {
  Attempt* attempt = Find(key);
  if (attempt == nullptr || attempt->over || attempt->place.empty()) return;
  attempt->killed = true;
  if (jobs_.link().client() == nullptr || std::exchange(attempt->kill_sent, true)) return;
  DeletePod(attempt->place, 1, [this, key](const Answer& answer) {
    if (Attempt* alive = Find(key); alive != nullptr) alive->kill_sent = false;  // when it is back
    jobs_.link().Away(answer);
  });
}

void PipelineRuns::Forget(const std::string& key) {
  Attempt* attempt = Find(key);
  if (attempt == nullptr) return;
  const bool reads = !attempt->place.empty() && !attempt->end && jobs_.link().client() != nullptr;
  if (!reads) return Drop(key);
  attempt->forgotten = true;
  draining_.Begin(attempt->log_prefix);
  DropLater(key);
  Check(key);
}

void PipelineRuns::DropLater(const std::string& key) {
  Attempt& attempt = attempts_.at(key);
  jobs_.link().client()->Abort(attempt.timer);
  attempt.timer = jobs_.link().client()->After(kLongestDrain, [this, key] {
    Attempt* late = Find(key);
    if (late == nullptr) return;
    late->timer = 0;
    Drop(key);
  });
}

void PipelineRuns::Drop(const std::string& key) {
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return;
  Attempt attempt = std::move(found->second);
  attempts_.erase(found);
  if (attempt.timer != 0 && jobs_.link().client() != nullptr) jobs_.link().client()->Abort(attempt.timer);
  attempt.log.reset();
  kubernetes::ForgetProgress(attempt.log_prefix);
  draining_.End(attempt.log_prefix);
  Settle(attempt.in);
  RemoveReleased();
}

void PipelineRuns::KeepRuns(const std::vector<std::string>& run_ids) {
  for (const std::string& id : run_ids) kept_.insert(kubernetes::LabelValue(id));
  keeps_ = true;
  if (ready()) Sweep();
}

void PipelineRuns::ReleaseRun(const std::string& run_id) {
  const std::string run = kubernetes::LabelValue(run_id);
  kept_.erase(run);
  const bool has =
      std::any_of(natives_.begin(), natives_.end(), [&](const auto& n) { return n.second.view.run_id == run; });
  if (has || making_.count(run) > 0) released_.insert(run);
  RemoveReleased();
}

// --- what the cluster says ---

void PipelineRuns::Anew() {
  watch_.reset();
  for (auto& [key, attempt] : attempts_) {
    attempt.log.reset();
    attempt.timer = 0;
    attempt.kill_sent = false;
    if (!attempt.end) attempt.over = false;  // the rest of its log is still to be read
  }
  for (auto& [run, making] : making_) making.asked = false;
  for (auto& [name, native] : natives_) native.removing = native.owns = false;
  leaving_.clear();
  left_timer_ = 0;
  listed_ = false;
  if (begun_) Begin();
}

void PipelineRuns::Begin() {
  if (!config_.whole_runs) return;  // the account may not even see them
  begun_ = true;
  kubernetes::Client* client = jobs_.link().client();
  if (client == nullptr) return;  // Anew comes when there is one
  kubernetes::Watch::Calls calls;
  calls.listing = [this] {
    for (auto& [name, native] : natives_) native.listed = false;
  };
  calls.seen = [this](const json& object) { OnRun(object, false); };
  calls.gone = [this](const json& object) { OnRun(object, true); };
  calls.listed = [this] {
    listed_ = true;
    for (auto& [name, native] : natives_) {
      if (!native.listed && native.known) native.gone = true;
      if (native.gone || !native.known) AwaitLeft(name);
    }
    if (jobs_.link().ready()) Back();
  };
  calls.failed = [this](const Answer& answer) { jobs_.link().Away(answer, Path()); };
  watch_ = std::make_unique<kubernetes::Watch>(client, Path(), jobs_.link().selector(), std::move(calls));
  watch_->Start();
}

void PipelineRuns::Back() {
  if (watch_ == nullptr && begun_) Begin();
  if (watch_ != nullptr) watch_->Hurry();
  if (!ready()) return;
  std::vector<std::string> keys;
  for (const auto& [key, attempt] : attempts_) keys.push_back(key);
  for (const std::string& key : keys) {
    Attempt* attempt = Find(key);
    if (attempt == nullptr) continue;
    if (std::exchange(attempt->adopted, false) && !attempt->place.empty()) {
      TaskSeen& seen = natives_[attempt->in].tasks[attempt->name.step_index];
      if (seen.pods.count(attempt->place) == 0) seen.pods_gone[attempt->place] = true;  // in the time of another daemon
    }
    if (attempt->forgotten && attempt->timer == 0) DropLater(key);
    if (attempt->killed) Kill(key);
    if (attempt->in.empty()) {
      Place(key);
    } else {
      Check(key);
    }
  }
  std::vector<std::string> runs;
  for (const auto& [run, making] : making_) {
    if (!making.asked) runs.push_back(run);
  }
  for (const std::string& run : runs) MakeRun(run);
  Sweep();
  RemoveReleased();
}

void PipelineRuns::Listing(bool pods) {
  for (auto& [name, native] : natives_) {
    for (auto& [index, seen] : native.tasks) seen.SetListing(pods);
  }
}

void PipelineRuns::Listed(bool pods) {
  std::vector<std::string> names;
  for (auto& [name, native] : natives_) {
    for (auto& [index, seen] : native.tasks) seen.SetListed(pods);
    names.push_back(name);
  }
  for (const std::string& name : names) CheckAll(name);
}

void PipelineRuns::Seen(const json& object, bool pod, bool gone) {
  if (!config_.whole_runs) return;  // left by a former configuration
  uint32_t index = 0;
  const std::string name = Label(object, kOfRunLabel);
  if (name.empty() || !absl::SimpleAtoi(Label(object, kTaskLabel), &index)) return;
  TaskSeen& seen = natives_[name].tasks[index];
  if (pod) {
    kubernetes::PodView view = kubernetes::ReadPod(object, TaskRuns().pod);
    AwaitEnd(view, gone);
    seen.See(std::move(view), gone);
  } else {
    seen.See(ReadTaskRun(object, jobs_.link().selector()), gone);
  }
  for (const std::string& key : KeysIn(name)) {
    const Attempt* attempt = Find(key);
    if (attempt != nullptr && attempt->name.step_index == index) Check(key);
  }
  AwaitLeft(name);
  Settle(name);
}

void PipelineRuns::OnRun(const json& object, bool gone) {
  PipelineRunView view = ReadPipelineRun(object, jobs_.link().selector());
  if (!view.ours) return;
  const std::string name = view.name;
  if (gone) {
    natives_[name].gone = true;
    CheckAll(name);
    AwaitLeft(name);
    return Settle(name);
  }
  Take(object);
  CheckAll(name);
  Sweep();
  RemoveReleased();
}

void PipelineRuns::Take(const json& object) {
  PipelineRunView view = ReadPipelineRun(object, jobs_.link().selector());
  Native& native = natives_[view.name];
  native.known = native.listed = true;
  native.gone = false;
  native.view = std::move(view);
  if (!std::exchange(native.owns, true)) Own(native.view.name, native.view.uid);
}

void PipelineRuns::CheckAll(const std::string& native) {
  for (const std::string& key : KeysIn(native)) Check(key);
}

// --- which PipelineRun has its task ---

void PipelineRuns::Place(const std::string& key) {
  if (!ready()) return;
  Attempt& attempt = attempts_.at(key);
  for (auto it = natives_.rbegin(); it != natives_.rend(); ++it) {
    Native& native = it->second;
    const uint32_t index = attempt.name.step_index;
    const auto task = native.view.tasks.find(index);
    if (native.view.run_id != attempt.run || native.over() || task == native.view.tasks.end()) continue;
    if (native.tasks[index].over()) continue;
    attempt.in = it->first;
    std::string url;
    if (!config_.dashboard.empty()) {
      url = absl::StrCat(config_.dashboard, "/#/namespaces/", jobs_.link().space(), "/pipelineruns/", it->first,
                         "?pipelineTask=", task->second);
    }
    attempt.accepted = true;
    jobs_.listener()->Accepted(key, it->first, it->first, url);
    return Check(key);
  }
  if (making_.count(attempt.run) == 0) Make(attempt.run);
}

void PipelineRuns::Make(const std::string& run) {
  const std::vector<std::string> keys = KeysOf(run);
  const auto waits =
      std::find_if(keys.begin(), keys.end(), [&](const std::string& key) { return Find(key)->in.empty(); });
  if (waits == keys.end()) return;
  absl::StatusOr<RunOutline> outline = Find(*waits)->outline();
  if (!outline.ok()) {
    const std::string key = *waits;
    attempts_.erase(key);
    return jobs_.listener()->Refused(key, true, Reason::kSubmitRefused, std::string(outline.status().message()));
  }
  Making making;
  making.outline = *std::move(outline);
  for (const auto& [name, native] : natives_) {
    if (native.view.run_id == run) making.number = std::max(making.number, native.view.number + 1);
  }
  making_[run] = std::move(making);
  MakeRun(run);
}

// --- an attempt ---

void PipelineRuns::Check(const std::string& key) {
  Attempt* attempt = Find(key);
  if (attempt == nullptr || attempt->over || attempt->end || attempt->in.empty() || !ready()) return;
  const Native& native = natives_[attempt->in];
  static const TaskSeen kNothing;
  const auto task = native.tasks.find(attempt->name.step_index);
  const TaskSeen& seen = task == native.tasks.end() ? kNothing : task->second;
  const auto pod = seen.pods.find(attempt->place);
  switch (FateOf(seen, native.over(), attempt->place)) {
    case TaskFate::kGoesOn:
      if (attempt->place.empty()) return Explain(key, seen);
      if (pod != seen.pods.end() && pod->second.began() && attempt->log == nullptr) {
        const auto reads =
            std::count_if(attempts_.begin(), attempts_.end(), [](const auto& a) { return a.second.log != nullptr; });
        if (reads < config_.pods.logs_at_once) LogOf(key).Follow(jobs_.link().Pods(PodOf(attempt->place)));
      }
      return;
    case TaskFate::kPlaceTaken:
      if (attempt->killed || attempt->forgotten || attempt->waited) return PlaceOver(key, native, seen);
      if (attempt->timer != 0) return;
      attempt->timer = jobs_.link().client()->After(kOtherStream, [this, key] {
        Attempt* still = Find(key);
        if (still == nullptr) return;
        still->timer = 0;
        still->waited = true;
        Check(key);
      });
      return;
    case TaskFate::kPlaceOver:
      return PlaceOver(key, native, seen);
    case TaskFate::kNotStarted:
      return NotStarted(key, native, seen);
  }
}

void PipelineRuns::PlaceOver(const std::string& key, const Native& native, const TaskSeen& seen) {
  Attempt& attempt = attempts_.at(key);
  const auto pod = seen.pods.find(attempt.place);
  attempt.over = true;
  if (pod == seen.pods.end() || !pod->second.began()) return LogRead(key);
  const auto gone = seen.pods_gone.find(attempt.place);
  const bool leaving = pod->second.deleting || native.over() || (gone != seen.pods_gone.end() && gone->second);
  LogOf(key).Finish(jobs_.link().Pods(PodOf(attempt.place)), leaving);
}

// Nobody comes for it: another PipelineRun is made, unless that would be no better.
void PipelineRuns::NotStarted(const std::string& key, const Native& native, const TaskSeen& seen) {
  Attempt& attempt = attempts_.at(key);
  const bool by_itself = native.view.reason == "Failed" || native.view.reason == "Completed" ||
                         native.view.reason == "Succeeded" || native.view.reason == "Cancelled";
  AttemptEnd end;
  end.never_started = true;
  if (seen.task_run && seen.task_run->failed && seen.task_run->verdict != Reason::kNone) {
    end.reason = seen.task_run->verdict;
    end.message = absl::StrCat(seen.task_run->reason, ": ", seen.task_run->message);
  } else if (native.view.over && !by_itself) {
    end.reason = Reason::kSubmitRefused;
    end.message = absl::StrCat("its PipelineRun: ", native.view.reason, ": ", native.view.message);
  } else if (attempt.moves >= kMostMoves) {
    end.reason = Reason::kLost;
    end.message = "its task has ended again and again before it was begun";
  } else {
    ++attempt.moves;
    attempt.in.clear();
    return Place(key);
  }
  End(key, std::move(end));
}

void PipelineRuns::Explain(const std::string& key, const TaskSeen& seen) {
  Attempt& attempt = attempts_.at(key);
  kubernetes::Pending pending;
  for (const auto& [name, pod] : seen.pods) {
    if (pod.over() || pod.began()) continue;
    pending = kubernetes::PendingOf(pod, config_.pods.image_seconds);
  }
  if (pending.reason == Reason::kNone && seen.task_run && !seen.task_run->waits_for.empty()) {
    pending = {Reason::kUnschedulable, seen.task_run->waits_for};
  }
  if (pending.reason == Reason::kNone) return;
  if (pending.reason == attempt.pending.reason && pending.message.size() <= attempt.pending.message.size()) return;
  attempt.pending = pending;
  jobs_.listener()->Pending(key, pending.reason, pending.message);
}

JobLog& PipelineRuns::LogOf(const std::string& key) {
  Attempt& attempt = attempts_.at(key);
  if (attempt.log != nullptr) return *attempt.log;
  JobLog::Calls calls;
  calls.finished = [this, key] { LogRead(key); };
  calls.over_limit = [this, key] { Kill(key); };
  calls.unwritable = [this, key](const std::string& fault) {
    Log(LogLevel::kWarning, "a log cannot be written",
        {{"orchestrator", context_.orchestrator}, {"key", key}, {"why", fault}});
  };
  attempt.log = std::make_unique<JobLog>(jobs_.link().client(), TaskRuns().pod.main, attempt.log_prefix, key,
                                         attempt.log_limit, std::move(calls));
  if (attempt.log->was_over_limit()) Kill(key);  // in an earlier life of the daemon
  return *attempt.log;
}

// Its place is over, and its log as far as it can be had.
void PipelineRuns::LogRead(const std::string& key) {
  Attempt& attempt = attempts_.at(key);
  if (attempt.forgotten) {  // not from within the log's own call
    draining_.End(attempt.log_prefix);
    jobs_.link().client()->Abort(std::exchange(attempt.timer, 0));
    attempt.timer = jobs_.link().client()->After(0, [this, key] {
      if (Attempt* done = Find(key); done != nullptr) done->timer = 0;
      Drop(key);
    });
    return;
  }
  const Native& native = natives_[attempt.in];
  const auto task = native.tasks.find(attempt.name.step_index);
  std::optional<PodView> pod;
  std::optional<kubernetes::JobView> task_run;
  kubernetes::JobFate fate;
  fate.word = native.gone ? "PipelineRun" : "TaskRun";
  fate.memory = attempt.memory;
  fate.stop_sent = attempt.killed;
  fate.job_gone = native.gone;
  if (task != native.tasks.end()) {
    const auto at = task->second.pods.find(attempt.place);
    if (at != task->second.pods.end()) pod = at->second;
    const auto gone = task->second.pods_gone.find(attempt.place);
    fate.pod_gone = gone != task->second.pods_gone.end() && gone->second;
    // Tekton makes another TaskRun of the name of one that is deleted, which knows nothing of this pod.
    fate.job_gone = fate.job_gone || task->second.task_run_gone || (pod && task->second.MadeForAnother(*pod));
    if (!fate.job_gone) task_run = task->second.task_run;
  }
  if (attempt.log != nullptr) {
    fate.over_limit = attempt.log->was_over_limit();
    fate.log_fault = attempt.log->fault();
    fate.stdout_bytes = attempt.log->bytes(false);
    fate.stderr_bytes = attempt.log->bytes(true);
  }
  kubernetes::JobEnd ended = kubernetes::EndOf(pod, task_run, fate);
  ended.end.never_started = false;  // its launcher has begun it
  if (ended.lost) ended.end.reason = Reason::kLost;
  End(key, std::move(ended.end));
}

void PipelineRuns::End(const std::string& key, AttemptEnd end) {
  Attempt& attempt = attempts_.at(key);
  attempt.over = true;
  if (end.ended_wall == 0) end.ended_wall = Clock::Real().Now().wall;
  attempt.end = end;
  jobs_.listener()->Ended(key, std::move(end));
}

// --- cleaning up ---

// Of a pod on a node that is lost its node says nothing more, and Tekton waits for that: nothing would come after its
// task. So it is taken out of the cluster. If it runs on nevertheless, nothing that it makes is taken.
void PipelineRuns::AwaitEnd(const PodView& pod, bool gone) {
  kubernetes::Client* client = jobs_.link().client();
  const std::string place = PlaceOf(pod);
  const auto found = leaving_.find(place);
  if (gone && found != leaving_.end()) {
    if (client != nullptr) client->Abort(found->second);
    leaving_.erase(found);
  }
  if (gone || !pod.deleting || found != leaving_.end() || client == nullptr) return;
  leaving_[place] = client->After(pod.grace_seconds * 1'000'000 + kubernetes::kNodeSilence, [this, place] {
    leaving_.erase(place);
    Log(LogLevel::kWarning, "a pod is taken away, whose node does not say that it has ended",
        {{"orchestrator", context_.orchestrator}, {"pod", PodOf(place)}});
    DeletePod(place, 0);
  });
}

bool PipelineRuns::HasLeft(const Native& native) const {
  return std::any_of(native.tasks.begin(), native.tasks.end(), [](const auto& task) {
    const TaskSeen& seen = task.second;
    return (seen.task_run && !seen.task_run_gone) ||
           std::any_of(seen.pods_gone.begin(), seen.pods_gone.end(), [](const auto& pod) { return !pod.second; });
  });
}

// What Tekton has made for a PipelineRun that is gone the cluster takes away with it. Its garbage collector may miss
// that, as after its API server was killed, and would leave it for good.
void PipelineRuns::AwaitLeft(const std::string& name) {
  const auto found = natives_.find(name);
  kubernetes::Client* client = jobs_.link().client();
  if (found == natives_.end() || client == nullptr) return;
  Native& native = found->second;
  if ((native.known && !native.gone) || !HasLeft(native)) {
    native.left_since = 0;
    return;
  }
  if (native.left_since == 0) native.left_since = client->now();
  if (left_timer_ == 0) left_timer_ = client->After(kubernetes::kCollectorsTime / 2, [this] { SweepLeft(); });
}

void PipelineRuns::SweepLeft() {
  left_timer_ = 0;
  kubernetes::Client* client = jobs_.link().client();
  std::vector<std::string> names;
  for (auto& [name, native] : natives_) {
    if (native.left_since == 0) continue;
    names.push_back(name);
    if (!listed_ || client->now() - native.left_since < kubernetes::kCollectorsTime) continue;
    native.left_since = 0;
    Log(LogLevel::kInfo, "what the cluster has left of a PipelineRun is removed",
        {{"orchestrator", context_.orchestrator}, {"name", name}});
    for (const auto& [index, seen] : native.tasks) {
      if (seen.task_run && !seen.task_run_gone) DeleteTaskRun(*seen.task_run);
      for (const auto& [place, pod] : seen.pods) {
        if (!seen.pods_gone.at(place) && !pod.deleting) DeletePod(place, -1);
      }
    }
    client->Call({"DELETE", jobs_.link().Secrets(name)}, [](const Answer&) {});
  }
  for (const std::string& name : names) AwaitLeft(name);
}

// Nothing of it is there, and nobody asks for it any more. Of a run that goes on the next one has another number.
void PipelineRuns::Settle(const std::string& name) {
  const auto found = natives_.find(name);
  if (found == natives_.end() || (found->second.known && !found->second.gone)) return;
  const std::string run = found->second.view.run_id;
  if (kept_.count(run) > 0 || HasLeft(found->second) || !KeysIn(name).empty()) return;
  natives_.erase(found);
  const bool another =
      std::any_of(natives_.begin(), natives_.end(), [&](const auto& n) { return n.second.view.run_id == run; });
  if (!another && making_.count(run) == 0) released_.erase(run);
}

// What is there of runs that the daemon does not know.
void PipelineRuns::Sweep() {
  if (!keeps_) return;
  std::vector<std::string> names;
  for (const auto& [name, native] : natives_) {
    if (native.known && native.view.ours && kept_.count(native.view.run_id) == 0 &&
        released_.count(native.view.run_id) == 0) {
      names.push_back(name);
    }
  }
  for (const std::string& name : names) Remove(name);
}

void PipelineRuns::RemoveReleased() {
  std::vector<std::string> names;
  for (const auto& [name, native] : natives_) {
    if (!native.known || released_.count(native.view.run_id) == 0) continue;
    const bool read = std::any_of(attempts_.begin(), attempts_.end(), [&, id = native.view.run_id](const auto& a) {
      return a.second.run == id && a.second.forgotten;
    });
    if (!read) names.push_back(name);
  }
  for (const std::string& name : names) {
    Remove(name);
    Settle(name);
  }
}

}  // namespace orch::tekton
