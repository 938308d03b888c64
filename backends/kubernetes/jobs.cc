#include "backends/kubernetes/jobs.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "backends/kubernetes/job_end.h"
#include "backends/kubernetes/manifest.h"
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"

namespace orch::kubernetes {
namespace {

using nlohmann::json;

constexpr int kLongestWait = 60'000;  // milliseconds

}  // namespace

Jobs::Jobs(const BackendContext* context, const Config* config, const JobKind* kind, ClusterLink::Dial dial)
    : context_(context),
      config_(config),
      kind_(*kind),
      link_(config, kind, LabelSelector(context->instance, context->orchestrator),
            {[this] { OnAnew(); }, [this](const json& job) { OnJob(job, false); },
             [this](const json& job) { OnJob(job, true); }, [this](const json& pod) { OnPod(pod, false); },
             [this](const json& pod) { OnPod(pod, true); }, [this](bool pods) { OnListing(pods); },
             [this](bool pods) { OnListed(pods); }, [this] { OnBack(); },
             [this](bool healthy, const std::string& why) { listener_->HealthChanged(healthy, why); }},
            std::move(dial)) {}

void Jobs::Connect(Listener* listener) {
  listener_ = listener;
  link_.Connect();
}

void Jobs::Poll() { link_.Poll(kLongestWait); }

Jobs::Job* Jobs::Find(const std::string& key) {
  const auto found = jobs_.find(key);
  return found == jobs_.end() ? nullptr : &found->second;
}

std::vector<std::string> Jobs::Keys() const {
  std::vector<std::string> keys;
  keys.reserve(jobs_.size());
  for (const auto& [key, job] : jobs_) keys.push_back(key);
  return keys;
}

// --- what the daemon says ---

void Jobs::Begin(AttemptWork& work) {
  const std::string key = work.name.key;
  incomplete_.erase(key);
  const auto [it, fresh] = jobs_.try_emplace(key, /*adopted=*/false, /*cancelled=*/false, kind_.has_verdict);
  Job& job = it->second;
  if (!fresh) {  // what is known of it
    if (job.life.known()) listener_->Accepted(key, job.life.uid(), job.name, "");
    if (job.end.has_value()) listener_->Ended(key, *job.end);
    return;
  }
  job.name = JobName(work.name);
  job.log_prefix = LogPrefix(work.name);
  job.work = std::move(work);
  if (link_.ready()) Do(key, job.life.Ready());
}

void Jobs::Cancel(const std::string& key, bool forced) {
  Job* job = Find(key);
  if (job == nullptr || job->life.over()) return;
  job->forced = job->forced || forced;
  Do(key, job->life.Cancel());
}

void Jobs::Adopt(const std::vector<KnownAttempt>& attempts) {
  for (const KnownAttempt& known : attempts) {
    const auto [it, fresh] = jobs_.try_emplace(known.name.key, /*adopted=*/true, known.stopping, kind_.has_verdict);
    Job& job = it->second;
    if (fresh) {
      job.name = JobName(known.name);
      job.log_prefix = LogPrefix(known.name);
      job.work.grace_micros = known.grace_micros;
      job.work.log_limit_bytes = known.log_limit_bytes;
      job.stop_unknown = known.stopping;
      job.secret = true;
      job.owned = kind_.secret_after;
      job.secret_due = kind_.secret_after && known.handle.empty() && !known.stopping;
    }
    if (adopted_ && job.life.phase() == Phase::kAdopted) Look(known.name.key);
  }
  // What is there is listed from now on, when it can be told whose it is.
  if (std::exchange(adopted_, true)) return;
  link_.Begin();
  if (companion_ != nullptr) companion_->Begin();
}

void Jobs::Forget(const std::string& key) {
  if (const auto half = incomplete_.find(key); half != incomplete_.end()) {
    const JobView job = half->second;
    incomplete_.erase(half);
    Remove(job.name, job.uid);
  }
  const auto found = jobs_.find(key);
  if (found == jobs_.end()) return;  // if there is one, it is seen to be nobody's
  Job job = std::move(found->second);
  jobs_.erase(found);
  if (Client* client = link_.client(); client != nullptr) {
    for (const uint64_t timer : {job.timer, job.patience_timer, job.events_timer}) client->Abort(timer);
  }
  job.log.reset();
  ForgetProgress(job.log_prefix);
  if (job.seen_early && job.seen_early->uid != job.life.uid()) Remove(job.seen_early->name, job.seen_early->uid);
  if (job.life.known() && !job.life.job_gone()) {
    Remove(job.name, job.life.uid());
    if (job.life.pod() && !job.life.pod_gone()) Stray(*job.life.pod());
  } else if (job.life.pod() && !job.life.pod_gone()) {
    DeletePod(job.life.pod()->name, job.life.pod()->uid, -1);
  }
  if (job.secret && !job.owned) DeleteSecret(key, job.name);
  FollowMore();
}

// --- what the cluster says ---

void Jobs::OnAnew() {
  for (auto& [key, job] : jobs_) {
    job.timer = job.patience_timer = job.events_timer = 0;
    job.looking = job.completing = job.events_due = false;
    job.stop_unknown = job.stop_unknown || job.stop_sent || job.kill_sent;  // nobody answers for it any more
    job.stop_sent = job.kill_sent = false;
    job.life.Anew();
    job.look_again = !job.life.over();
    job.log.reset();
  }
  secrets_going_.clear();
  strays_.clear();  // they are listed anew
  strays_timer_ = events_pause_ = 0;
  events_due_.clear();
  if (companion_ != nullptr) companion_->Anew();
  remove_again_.clear();
  for (const auto& [uid, name] : removing_) remove_again_.insert(uid);
}

void Jobs::OnBack() {
  if (!link_.ready()) return;
  if (companion_ != nullptr) companion_->Back();
  for (const std::string& key : Keys()) {
    Job* job = Find(key);
    if (job == nullptr) continue;
    if (job->life.phase() == Phase::kWaiting) {
      Do(key, job->life.Ready());
    } else if (job->look_again) {
      Do(key, job->life.Missing());
    } else if (job->life.over() && !job->end && job->log == nullptr) {
      ReadLog(key);
    } else if (WantsStop(*job)) {
      Stop(key);
    }
  }
  for (const std::string& uid : std::exchange(remove_again_, {})) {
    const auto found = removing_.find(uid);
    if (found == removing_.end()) continue;
    const std::string name = found->second;
    removing_.erase(found);
    Remove(name, uid);
  }
}

void Jobs::OnListing(bool pods) {
  if (companion_ != nullptr) companion_->Listing(pods);
  for (auto& [key, job] : jobs_) (pods ? job.listed_pod : job.listed_job) = false;
}

void Jobs::OnListed(bool pods) {
  if (companion_ != nullptr) companion_->Listed(pods);
  for (const std::string& key : Keys()) {
    Job* job = Find(key);
    if (job == nullptr || (pods ? job->listed_pod : job->listed_job)) continue;
    // Was it there before? Then it is looked up what has become of it.
    const JobLife& life = job->life;
    const bool expected = pods ? life.pod().has_value() && !life.pod_gone()
                               : (life.known() && !life.job_gone()) || life.phase() == Phase::kAdopted;
    if (expected) Do(key, job->life.Missing());
  }
}

void Jobs::OnJob(const json& object, bool gone) {
  const JobView view = kind_.read(object, link_.selector());
  if (companion_ != nullptr && view.key.empty()) return companion_->Seen(object, false, gone);
  if (gone) removing_.erase(view.uid);
  Job* job = Find(view.key);
  if (job == nullptr) {
    if (!gone) RemoveStranger(view);
    return;
  }
  if (view.name != job->name) return;  // somebody has copied the labels
  job->listed_job = true;
  if (!gone && RemoveLate(view.key, view)) return;
  if (gone) return Do(view.key, job->life.GoneJob(view));
  if (!job->secret_due) return Do(view.key, job->life.SeenJob(view));
  job->seen_early = view;
  if (job->life.phase() != Phase::kAdopted || job->completing || !view.ours)
    return;  // whoever has asked for it goes on
  Complete(view.key, view, [this, key = view.key, view] { Do(key, jobs_.at(key).life.SeenJob(view)); });
}

void Jobs::OnPod(const json& object, bool gone) {
  const PodView view = ReadPod(object, kind_.pod);
  if (companion_ != nullptr && view.key.empty()) return companion_->Seen(object, true, gone);
  Job* job = Find(view.key);
  if (job == nullptr) {
    if (gone) {
      strays_.erase(view.uid);
    } else {
      Stray(view);
    }
    return;
  }
  job->listed_pod = true;
  const Move move = gone ? job->life.GonePod(view) : job->life.SeenPod(view, link_.client()->now());
  Do(view.key, move);
}

void Jobs::RemoveStranger(const JobView& job) {
  if (!adopted_ || !job.ours || job.deleting || removing_.count(job.uid) > 0) return;
  if (incomplete_.count(job.key) > 0) return;
  Log(LogLevel::kInfo, absl::StrCat("a ", kind_.word, " of an attempt that is over is removed"),
      {{"orchestrator", context_->orchestrator}, {"name", job.name}});
  Remove(job.name, job.uid);
}

// The cluster takes it away with what it was made for. Its garbage collector may miss that, as after its API server was
// killed, and would leave it for good.
void Jobs::Stray(const PodView& pod) {
  Client* client = link_.client();
  if (!adopted_ || client == nullptr) return;
  if (pod.deleting) {
    strays_.erase(pod.uid);
    return;
  }
  strays_.try_emplace(pod.uid, StrayPod{pod.name, pod.key, pod.made_for, client->now()});
  if (strays_timer_ == 0) strays_timer_ = client->After(kCollectorsTime / 2, [this] { SweepStrays(); });
}

void Jobs::SweepStrays() {
  strays_timer_ = 0;
  Client* client = link_.client();
  for (auto it = strays_.begin(); it != strays_.end();) {
    const StrayPod& pod = it->second;
    const bool known = jobs_.count(pod.key) > 0 || incomplete_.count(pod.key) > 0;
    const bool due = client->now() - pod.since >= kCollectorsTime;
    if (due && !known) {
      Log(LogLevel::kInfo, "a pod that the cluster has left is removed",
          {{"orchestrator", context_->orchestrator}, {"pod", pod.name}});
      DeletePod(pod.name, it->first, -1);
      if (!pod.made_for.empty()) client->Call({"DELETE", link_.Secrets(pod.made_for)}, [](const Answer&) {});
    }
    it = due || known ? strays_.erase(it) : std::next(it);
  }
  if (!strays_.empty()) strays_timer_ = client->After(kCollectorsTime / 2, [this] { SweepStrays(); });
}

// Made for an attempt that has ended without a Job, or with another one: nobody waits for it.
bool Jobs::RemoveLate(const std::string& key, const JobView& made) {
  const Job& job = jobs_.at(key);
  if (!job.life.over() || !made.ours || made.uid.empty() || made.uid == job.life.uid()) return false;
  if (!made.deleting && removing_.count(made.uid) == 0) Remove(made.name, made.uid);
  return true;
}

void Jobs::Remove(const std::string& name, const std::string& uid) {
  removing_[uid] = name;
  DeleteJob(name, uid, [this, uid](const Answer& answer) {
    if (answer.ok()) return;  // it is told when it has come to pass
    if (answer.later() || answer.code == 401 || answer.code == 403) {
      remove_again_.insert(uid);
      link_.Away(answer);
    } else {
      removing_.erase(uid);
    }
  });
}

// --- an attempt ---

void Jobs::Do(const std::string& key, const Move& move) {
  Job& job = jobs_.at(key);
  if (move.accepted) {
    const std::string url = absl::StrReplaceAll(
        config_->url, {{"{namespace}", link_.space()}, {"{job}", job.name}, {"{context}", link_.context()}});
    listener_->Accepted(key, job.life.uid(), job.name, url);
    Own(key);
    job.work.env = {};  // it is not made again
    job.work.command = {};
  }
  if (move.started) {
    if (Client* client = link_.client(); client != nullptr) {
      client->Abort(std::exchange(job.patience_timer, 0));
      client->Abort(std::exchange(job.events_timer, 0));
    }
    const PodView& pod = *job.life.pod();
    listener_->Started(key, pod.name, pod.node, pod.main.started_wall);
  }
  switch (move.what) {
    case Move::Do::kNothing:
      break;
    case Move::Do::kMake:
      return Make(key);
    case Move::Do::kLook:
      return Look(key);
    case Move::Do::kLater:
      if (Client* client = link_.client(); client != nullptr) {
        client->Abort(job.timer);
        job.timer = client->After(move.wait, [this, key] {
          Job* due = Find(key);
          if (due == nullptr) return;
          due->timer = 0;
          Do(key, due->life.IsDue());
        });
      }
      break;
    case Move::Do::kFollow:
      Follow(key);
      break;
    case Move::Do::kReadLog:
      return ReadLog(key);
    case Move::Do::kTell:
      return Tell(key);
    case Move::Do::kEndUnstarted: {
      AttemptEnd end;
      end.reason = Reason::kCancelRequested;
      end.stopped = end.never_started = true;
      return End(key, std::move(end));
    }
    case Move::Do::kRefuse:
      return Refuse(key, move.transient, move.reason, move.message);
    case Move::Do::kNotFound:
      if (job.secret && !job.owned) DeleteSecret(key, job.name);
      jobs_.erase(key);
      return listener_->NotFound(key);
    case Move::Do::kUnknown:  // it stays known, so that what may appear is not taken for nobody's
      return listener_->Unknown(key, "the API server's answer was lost");
    case Move::Do::kAway:
      job.look_again = job.life.phase() != Phase::kWaiting;
      return;
  }
  if (move.stop && (!job.stop_sent || (job.forced && !job.kill_sent))) Stop(key);
  if (move.stop_pod) DeletePod(job.life.pod()->name, job.life.pod()->uid, -1);
  Explain(key);
}

void Jobs::Refuse(const std::string& key, bool transient, Reason reason, const std::string& message) {
  const Job& job = jobs_.at(key);
  if (job.secret && !job.owned) DeleteSecret(key, job.name);
  jobs_.erase(key);
  listener_->Refused(key, transient, reason, message);
}

// --- why it has not begun ---

void Jobs::Explain(const std::string& key) {
  Job* job = Find(key);
  if (job == nullptr || job->life.over() || job->life.began() || job->life.phase() != Phase::kLive) return;
  Pending pending;
  if (job->life.pod()) pending = PendingOf(*job->life.pod(), config_->image_seconds);
  if (!job->life.pod() && job->life.job() && !job->life.job()->waits_for.empty()) {
    pending = {Reason::kUnschedulable, job->life.job()->waits_for};
  }
  if (pending.reason != Reason::kNone) return TellPending(key, std::move(pending), /*by_events=*/false);
  NotPending(key);
  // What neither Job nor pod says, the cluster's events may: no room in a quota, a volume that cannot be mounted.
  constexpr int64_t kFirstLook = 5'000'000;
  Client* client = link_.client();
  if (job->events_timer != 0 || job->events_due || client == nullptr) return;
  job->events_timer = client->After(kFirstLook, [this, key] { AskEvents(key); });
}

void Jobs::AskEvents(const std::string& key) {
  Job* job = Find(key);
  if (job == nullptr) return;
  job->events_timer = 0;
  job->events_due = true;
  events_due_.push_back(key);
  if (events_pause_ == 0) NextEvents();
}

// One after the other: an API server looks through all events of the namespace for those of one object.
void Jobs::NextEvents() {
  constexpr int64_t kPause = 200'000;
  constexpr int64_t kNextLook = 30'000'000;
  events_pause_ = 0;
  Client* client = link_.client();
  while (client != nullptr && !events_due_.empty()) {
    const std::string key = events_due_.front();
    events_due_.pop_front();
    Job* job = Find(key);
    if (job == nullptr || !std::exchange(job->events_due, false)) continue;
    if (job->life.over() || job->life.began() || job->life.phase() != Phase::kLive) continue;
    job->events_timer = client->After(kNextLook, [this, key] { AskEvents(key); });
    events_pause_ = client->After(kPause, [this] { NextEvents(); });
    Request request;
    request.path = absl::StrCat(
        link_.Events(), "?limit=50&fieldSelector=",
        UrlEscape(absl::StrCat("involvedObject.uid=", job->life.pod() ? job->life.pod()->uid : job->life.uid())));
    request.tries = 1;
    client->Call(std::move(request), [this, key](const Answer& answer) {
      Job* j = Find(key);
      if (j == nullptr || !answer.ok() || j->life.over() || j->life.began()) return;
      const std::string warning = WarningOf(answer.object);
      if (warning.empty()) return;
      Pending pending = j->life.pod() ? PendingOf(*j->life.pod(), config_->image_seconds) : Pending();
      if (pending.reason == Reason::kNone) TellPending(key, {Reason::kUnschedulable, warning}, true);
    });
    return;
  }
}

// So long it may last is one container's: a pull of the next one has its own time.
void Jobs::TellPending(const std::string& key, Pending pending, bool by_events) {
  Job& job = jobs_.at(key);
  Client* client = link_.client();
  const bool same = job.pending.reason == pending.reason && job.pending.patience == pending.patience &&
                    job.pending.of == pending.of && job.by_events == by_events;
  if (client != nullptr && (!same || job.patience_timer == 0)) {
    client->Abort(std::exchange(job.patience_timer, 0));
    if (!same) job.patience_ends = client->now() + pending.patience;
    if (pending.patience >= 0) {
      job.patience_timer = client->After(job.patience_ends - client->now(), [this, key] {
        Job* j = Find(key);
        if (j == nullptr) return;
        j->patience_timer = 0;
        if (j->life.began() || j->life.over()) return;
        j->given_up = true;
        Do(key, j->life.GiveUp());
      });
    }
  }
  // A pull that fails and one that is about to be tried again take turns: what says more stays.
  if (same && pending.reason == Reason::kImagePullFailed && pending.message.size() <= job.pending.message.size())
    return;
  if (same && pending.message == job.pending.message) return;
  job.pending = std::move(pending);
  job.by_events = by_events;
  listener_->Pending(key, job.pending.reason, job.pending.message);
}

// What was the matter with its Job or pod is over.
void Jobs::NotPending(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.pending.reason == Reason::kNone || job.by_events) return;
  if (Client* client = link_.client(); client != nullptr) client->Abort(job.patience_timer);
  job.patience_timer = 0;
  job.pending = Pending();
  listener_->Pending(key, Reason::kNone, "");
}

// --- its end ---

JobLog& Jobs::LogOf(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.log != nullptr) return *job.log;
  JobLog::Calls calls;
  calls.finished = [this, key] { Tell(key); };
  calls.over_limit = [this, key] { Stop(key); };
  calls.unwritable = [this, key](const std::string& fault) {
    Log(LogLevel::kWarning, "a log cannot be written",
        {{"orchestrator", context_->orchestrator}, {"key", key}, {"why", fault}});
  };
  job.log = std::make_unique<JobLog>(link_.client(), kind_.pod.main, job.log_prefix, key, job.work.log_limit_bytes,
                                     std::move(calls));
  if (job.log->was_over_limit()) Stop(key);  // in an earlier life of the daemon
  return *job.log;
}

std::string Jobs::PodPath(const Job& job) const { return link_.Pods(job.life.pod() ? job.life.pod()->name : "none"); }

bool Jobs::Leaving(const Job& job) const {
  return job.life.pod_gone() || job.life.job_gone() || (job.life.pod() && job.life.pod()->deleting) || job.stop_sent;
}

bool Jobs::WantsStop(const Job& job) {
  const bool wanted = job.life.cancelled() || (job.log != nullptr && job.log->was_over_limit());
  return wanted && job.life.phase() == Phase::kLive && (!job.stop_sent || (job.forced && !job.kill_sent));
}

void Jobs::Follow(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.log != nullptr || link_.client() == nullptr) return;
  const auto follows = std::count_if(jobs_.begin(), jobs_.end(), [](const auto& entry) {
    return entry.second.log != nullptr && !entry.second.end.has_value();
  });
  if (follows >= config_->logs_at_once) return;  // at its end, or when another one has ended
  LogOf(key).Follow(PodPath(job));
}

void Jobs::FollowMore() {
  if (static_cast<int64_t>(jobs_.size()) < config_->logs_at_once) return;
  for (auto& [key, job] : jobs_) {
    if (job.log != nullptr || !job.life.began() || job.life.over()) continue;
    return Follow(key);
  }
}

void Jobs::ReadLog(const std::string& key) {
  Job& job = jobs_.at(key);
  if (link_.client() == nullptr) return;  // when it is back
  if (job.life.replaced()) {
    // By its pod's name there is the log of another one now.
    return LogOf(key).End("its pod was taken away, and another one has its name");
  }
  LogOf(key).Finish(PodPath(job), Leaving(job), job.life.silent());
}

// Its end is known, and its log as far as it can be had.
void Jobs::Tell(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.end.has_value()) return;
  JobFate fate;
  fate.word = kind_.word;
  fate.memory = job.work.resources.memory;
  fate.stop_sent = job.stop_sent || job.kill_sent || job.stop_unknown;
  fate.job_gone = job.life.job_gone();
  fate.pod_gone = job.life.pod_gone();
  fate.silent = job.life.silent();
  if (job.log != nullptr) {
    fate.over_limit = job.log->was_over_limit();
    fate.log_fault = job.log->fault();
    fate.stdout_bytes = job.log->bytes(false);
    fate.stderr_bytes = job.log->bytes(true);
  }
  const std::optional<JobView> known = fate.job_gone ? std::nullopt : job.life.job();
  JobEnd ended = EndOf(job.life.pod(), known, fate);
  if (job.given_up && !fate.stop_sent) {
    ended = JobEnd();
    ended.end.reason = job.pending.reason;
    ended.end.message = job.pending.message;
    ended.end.never_started = true;
  }
  if (ended.end.never_started && ended.end.message.empty()) ended.end.message = job.pending.message;
  if (!ended.lost) return End(key, std::move(ended.end));
  job.life.Over();
  job.end = ended.end;
  job.end->reason = Reason::kLost;
  listener_->Lost(key, ended.end.message);
}

void Jobs::End(const std::string& key, AttemptEnd end) {
  Job& job = jobs_.at(key);
  job.life.Over();
  if (end.ended_wall == 0) end.ended_wall = Clock::Real().Now().wall;
  job.end = end;
  listener_->Ended(key, std::move(end));
  FollowMore();
}

}  // namespace orch::kubernetes
