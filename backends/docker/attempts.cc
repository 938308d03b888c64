#include "backends/docker/attempts.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/docker/container.h"
#include "backends/docker/container_end.h"
#include "backends/docker/inspected.h"
#include "server/base/clock.h"
#include "server/base/fault.h"
#include "server/base/log.h"

namespace orch::docker {
namespace {

using nlohmann::json;

constexpr int kCallSeconds = 60;
constexpr int64_t kCheckMicros = 1'000'000;
constexpr int64_t kLongestWaitMicros = 60'000'000;

// Before something that was refused is asked for again; `tries` were.
int64_t PauseAfter(int tries) { return std::min(kCheckMicros << std::min(tries, 10), kLongestWaitMicros); }

// The first bytes of a file; fewer if it has no more.
std::string HeadOf(const std::string& path) {
  std::string head(kLogHead, '\0');
  std::ifstream in(path);
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  return head;
}

// The last ones.
std::string TailOf(const std::string& path) {
  std::ifstream in(path, std::ios::ate);
  const std::streamoff size = in.tellg();
  if (!in || size <= 0) return "";
  std::string tail(static_cast<size_t>(std::min<std::streamoff>(size, kLogTail)), '\0');
  in.seekg(-static_cast<std::streamoff>(tail.size()), std::ios::end);
  in.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  tail.resize(static_cast<size_t>(in.gcount()));
  return tail;
}

}  // namespace

Attempts::Attempts(const BackendContext* context, const Config* config)
    : context_(context),
      config_(config),
      places_(context, config),
      client_(config->address),
      link_(&client_, config,
            {absl::StrCat(kInstanceLabel, "=", context->instance),
             absl::StrCat(kOrchestratorLabel, "=", context->orchestrator)},
            {[this] { List(); }, [this] { BreakOff(); }, [this](const ContainerEvent& event) { Happened(event); },
             [this](bool healthy, const std::string& why) { listener_->HealthChanged(healthy, why); }}),
      images_(
          &client_, [this](absl::string_view path) { return Path(path); }, config, context->read_secret) {}

void Attempts::Connect(Listener* listener) {
  listener_ = listener;
  link_.Connect();
}

void Attempts::Poll() {
  const int64_t now = Clock::Real().Now().mono;
  if (check_at_ > 0 && check_at_ <= now) Check(now);
  int64_t wait = kLongestWaitMicros;
  for (const int64_t due : {link_.Wake(now), check_at_}) {
    if (due > 0) wait = std::clamp<int64_t>(due - now, 0, wait);
  }
  client_.Poll(static_cast<int>(wait / 1000 + 1));
}

void Attempts::Cancel(const std::string& key, bool forced) {
  Job* job = Find(key);
  if (job == nullptr || job->life.phase() == Phase::kEnded) return;
  job->forced = job->forced || forced;
  if (job->image != 0) images_.Leave(std::exchange(job->image, 0));
  Do(key, job->life.Cancel());
}

void Attempts::Adopt(const std::vector<KnownAttempt>& attempts) {
  for (const KnownAttempt& known : attempts) {
    const auto [it, fresh] = jobs_.try_emplace(known.name.key, known.name.key, /*adopted=*/true, known.stopping);
    if (!fresh) continue;
    Job& job = it->second;
    job.log_prefix = places_.LogPrefix(known.name);
    job.grace_micros = known.grace_micros;
    job.log_limit_bytes = known.log_limit_bytes;
    job.stop_unknown = known.stopping;
  }
  if (!std::exchange(adopted_, true)) places_.RemoveSecretsOfOthers(Keys());
  if (link_.settled()) List();
}

void Attempts::CheckAt(int64_t when) { check_at_ = check_at_ == 0 ? when : std::min(check_at_, when); }

void Attempts::Check(int64_t now) {
  check_at_ = 0;
  RemoveAgain(now);
  for (const std::string& key : Keys()) {
    Job* job = Find(key);
    if (job == nullptr) continue;
    if (job->due_at > now) {
      CheckAt(job->due_at);
    } else if (std::exchange(job->due_at, 0) > 0) {
      Do(key, job->life.IsDue());
      if ((job = Find(key)) == nullptr) continue;
    }
    if (job->stop_at > now) {
      CheckAt(job->stop_at);
    } else if (std::exchange(job->stop_at, 0) > 0) {
      link_.settled() ? StopContainer(key) : StopAgain(*job);
    }
    if (job->log == nullptr || job->life.phase() != Phase::kRunning) continue;
    if (job->log->let_go() && !job->life.state().has_value()) {
      job->log->LookedAfter();
      Inspect(key);
    }
    job->log->Wake(now, link_.settled());
  }
}

Attempts::Job* Attempts::Find(const std::string& key) {
  const auto found = jobs_.find(key);
  return found == jobs_.end() ? nullptr : &found->second;
}

std::vector<std::string> Attempts::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, job] : jobs_) keys.push_back(key);
  return keys;
}

void Attempts::Happened(const ContainerEvent& event) {
  Job* job = Find(event.key);
  if (job != nullptr) Do(event.key, job->life.Happened(event));
}

// Steps that run may be ended by an engine that goes away.
void Attempts::BreakOff() {
  for (auto& [key, job] : jobs_) job.life.BrokeOff();
}

// Everything of ours that the engine has.
void Attempts::List() {
  client_.Call("GET", Path(absl::StrCat("/containers/json?all=1&filters=", link_.Filters())), "", kCallSeconds,
               [this](Answer answer) {
                 const json list = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
                 if (answer.status != 200 || !list.is_array()) return link_.Disconnected(answer);
                 Reconcile(list);
               });
}

void Attempts::Reconcile(const json& list) {
  std::map<std::string, std::string> there;  // key → container
  for (const json& entry : list) {
    if (!entry.is_object() || !entry.contains("Labels") || !entry["Labels"].is_object()) continue;
    there[TextField(entry["Labels"], kKeyLabel)] = TextField(entry, "Id");
  }
  link_.Settled();
  for (const std::string& key : Keys()) {
    Job* job = Find(key);
    if (job == nullptr) continue;
    const auto found = there.find(key);
    const bool followed = job->log != nullptr && job->log->open();
    Do(key, job->life.Listed(found == there.end() ? "" : found->second, followed, AskedOf(key, *job)));
  }
  if (!adopted_) return;
  going_.clear();                        // what is left of those is there, and nobody's
  for (const auto& [key, id] : there) {  // of attempts that nobody knows any more
    if (jobs_.count(key) == 0) Remove(id);
  }
}

void Attempts::Remove(const std::string& container) {
  going_.insert(container);
  client_.Call("DELETE", Path(absl::StrCat("/containers/", container, "?v=1&force=1")), "", kCallSeconds,
               [this, container](Answer answer) {
                 if (answer.status == 0) link_.Disconnected(answer);  // it is listed again, and found to be nobody's
                 if (answer.status == 0 || answer.status == 404 || answer.ok()) {
                   refused_removals_.erase(container);
                   going_.erase(container);
                   return;
                 }
                 Removal& removal = refused_removals_[container];
                 if (removal.tries == 0) {
                   Log(LogLevel::kWarning, "a container cannot be removed now; it is tried again",
                       {{"orchestrator", context_->orchestrator}, {"container", container}, {"why", answer.message()}});
                 }
                 removal.at = Clock::Real().Now().mono + PauseAfter(removal.tries++);
                 CheckAt(removal.at);
               });
}

void Attempts::RemoveAgain(int64_t now) {
  std::vector<std::string> due;
  for (auto& [container, removal] : refused_removals_) {
    if (removal.at == 0) continue;  // it is on its way
    if (removal.at > now) {
      CheckAt(removal.at);
    } else if (!link_.settled()) {
      removal.at = now + kCheckMicros;
      CheckAt(removal.at);
    } else {
      removal.at = 0;
      due.push_back(container);
    }
  }
  for (const std::string& container : due) Remove(container);
}

// --- an attempt ---

void Attempts::Begin(AttemptWork& work) {
  const std::string key = work.name.key;
  const auto [it, fresh] = jobs_.try_emplace(key, key, /*adopted=*/false, /*cancelled=*/false);
  Job& job = it->second;
  if (!fresh) {  // what is known of it
    if (!job.life.id().empty()) listener_->Accepted(key, job.life.id(), ContainerName(key), "");
    if (job.end.has_value()) listener_->Ended(key, *job.end);
    return;
  }
  job.log_prefix = places_.LogPrefix(work.name);
  job.grace_micros = work.grace_micros;
  job.log_limit_bytes = work.log_limit_bytes;
  job.work = std::move(work);
  if (link_.settled()) Do(key, job.life.Ready());
}

// `answer`: what led to it.
void Attempts::Do(const std::string& key, const Move& move, const Answer& answer) {
  Job& job = jobs_.at(key);
  if (move.accepted) listener_->Accepted(key, job.life.id(), ContainerName(key), "");
  if (move.started) {
    listener_->Started(key, job.life.id().substr(0, 12), "", job.life.started_wall());
  }
  switch (move.what) {
    case Move::Do::kNothing:
      return;
    case Move::Do::kLookForImage:
      return LookForImage(key);
    case Move::Do::kCreate:
      return Create(key);
    case Move::Do::kInspect:
      return Inspect(key);
    case Move::Do::kKill:
      client_.Call("POST", Path(absl::StrCat("/containers/", job.life.id(), "/kill?signal=SIGKILL")), "", kCallSeconds,
                   [](Answer) {});  // it is looked at again, whatever that says
      [[fallthrough]];
    case Move::Do::kLater:
      job.due_at = Clock::Real().Now().mono + kCheckMicros;
      return CheckAt(job.due_at);
    case Move::Do::kStart:
      return StartContainer(key);
    case Move::Do::kFollow:
      LogOf(key).Follow(job.life.id());
      // Its log has ended and it has not: the word of its end may be on its way, or be missed.
      if (job.log->let_go()) CheckAt(Clock::Real().Now().mono + kCheckMicros);
      return job.life.cancelled() ? StopContainer(key) : void();
    case Move::Do::kReadLog:
      return LogOf(key).Finish(job.life.id());
    case Move::Do::kTell:
      return Tell(key);
    case Move::Do::kEndUnstarted:
      return EndUnstarted(key);
    case Move::Do::kStop:
      return StopContainer(key);
    case Move::Do::kRefuse:
      return Refuse(key, move.transient, Reason::kSubmitRefused,
                    move.message.empty() ? link_.Words(answer) : move.message);
    case Move::Do::kLost:
      job.log.reset();
      return listener_->Lost(key, move.message);
    case Move::Do::kNotFound:
      jobs_.erase(key);
      return listener_->NotFound(key);
    case Move::Do::kUnknown:
      jobs_.erase(key);
      listener_->Unknown(key, link_.Words(answer));
      return link_.Disconnected(answer);
    case Move::Do::kDisconnected:
      return link_.Disconnected(answer);
  }
}

std::string Attempts::ImageOf(const Job& job) const { return job.work.image.empty() ? config_->image : job.work.image; }

void Attempts::Refuse(const std::string& key, bool transient, Reason reason, const std::string& message) {
  jobs_.erase(key);
  listener_->Refused(key, transient, reason, message);
}

void Attempts::LookForImage(const std::string& key) {
  Job& job = jobs_.at(key);
  const std::string image = ImageOf(job);
  if (image.empty()) {  // the orchestrator's was taken away meanwhile
    return Refuse(key, false, Reason::kSubmitRefused, "neither the step nor its orchestrator has an image");
  }
  const bool fresh = config_->pull == Pull::kAlways || job.life.image_gone();
  const uint64_t number = images_.Ensure(image, fresh, [this, key](ImageOutcome outcome) {
    Job* j = Find(key);
    if (j == nullptr) return;
    j->image = 0;
    switch (outcome.what) {
      case ImageOutcome::What::kThere:
        j->path = std::move(outcome.path);
        return Do(key, j->life.ImageIsThere());
      case ImageOutcome::What::kAway:
        return Do(key, j->life.EngineIsAway(), outcome.answer);
      case ImageOutcome::What::kRefused:
        return Refuse(key, outcome.transient, Reason::kImagePullFailed, outcome.message);
    }
  });
  if (Job* j = Find(key); j != nullptr && j->life.phase() == Phase::kImage) j->image = number;
}

void Attempts::Create(const std::string& key) {
  Job& job = jobs_.at(key);
  const absl::Status made = places_.Make(&job.work);
  if (!made.ok()) return Refuse(key, false, Reason::kSubmitRefused, std::string(made.message()));
  ORCH_FAULT("docker.create");
  client_.Call(
      "POST", Path(absl::StrCat("/containers/create?name=", ContainerName(key))),
      places_.Request(job.work, ImageOf(job), job.path), kCallSeconds, [this, key](Answer answer) {
        const json said = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
        const CreateAnswer created{answer.status, answer.refused, said.is_object() ? TextField(said, "Id") : ""};
        Job* j = Find(key);
        if (j != nullptr) {
          ORCH_FAULT("docker.created");
          Do(key, j->life.Created(created, config_->pull != Pull::kNever), answer);
        } else if (created.status == 201 && !created.id.empty()) {
          Remove(created.id);  // it was released meanwhile
        }
      });
}

// By whom it was asked to start: what is now reached may be another engine.
Asked Attempts::AskedOf(const std::string& key, const Job& job) const {
  if (job.start_breaks < 0) return places_.AskedBefore(key, link_.Identity());
  return job.start_breaks == link_.breaks() ? Asked::kThis : Asked::kEarlier;
}

void Attempts::StartContainer(const std::string& key) {
  Job& job = jobs_.at(key);
  // What a later life of the daemon has to go by.
  const absl::Status noted = places_.AboutToStart(key, link_.Identity());
  if (!noted.ok()) {
    if (!std::exchange(job.put_off, true)) {
      Log(LogLevel::kWarning, "a container is not started yet",
          {{"orchestrator", context_->orchestrator}, {"key", key}, {"why", std::string(noted.message())}});
    }
    return Do(key, job.life.StartPutOff());
  }
  job.start_breaks = link_.breaks();
  ORCH_FAULT("docker.start");
  // Without a limit of time: a start that is still to be done must not be asked for again.
  client_.Call("POST", Path(absl::StrCat("/containers/", job.life.id(), "/start")), "", 0, [this, key](Answer answer) {
    Job* j = Find(key);
    if (j == nullptr) return;
    ORCH_FAULT("docker.started");
    Do(key, j->life.StartAnswered(answer.status, Clock::Real().Now().wall), answer);
  });
}

// Looks where the container is, and goes on from there.
void Attempts::Inspect(const std::string& key) {
  Job& job = jobs_.at(key);
  if (!job.life.BeginInspect()) return;
  client_.Call("GET", Path(absl::StrCat("/containers/", job.life.id(), "/json")), "", kCallSeconds,
               [this, key](Answer answer) {
                 Job* j = Find(key);
                 if (j == nullptr) return;
                 const auto seen = ReadInspected(answer.body, key, context_->instance);
                 Do(key, j->life.InspectAnswered(answer.status, seen, AskedOf(key, *j)), answer);
                 if ((j = Find(key)) != nullptr && j->life.LookAgain()) Inspect(key);
               });
}

LogStream& Attempts::LogOf(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.log != nullptr) return *job.log;
  LogStream::Calls calls;
  calls.path = [this](absl::string_view path) { return Path(path); };
  calls.let_go = [this, key] { Inspect(key); };
  calls.finished = [this, key] { Tell(key); };
  calls.over_limit = [this, key] {
    jobs_.at(key).forced = true;
    StopContainer(key);
  };
  calls.faulty = [this, key](const std::string& fault) {
    Log(LogLevel::kWarning, "a log cannot be read or written now; it is tried again",
        {{"orchestrator", context_->orchestrator}, {"key", key}, {"why", fault}});
  };
  calls.wake = [this](int64_t mono) { CheckAt(mono); };
  job.log = std::make_unique<LogStream>(&client_, job.log_prefix, job.log_limit_bytes, std::move(calls));
  return *job.log;
}

void Attempts::End(const std::string& key, AttemptEnd end) {
  Job& job = jobs_.at(key);
  job.life.Over();
  end.output_dir = places_.Folder(key) + "/output";
  end.scratch_dir = places_.Folder(key) + "/scratch";
  if (end.ended_wall == 0) end.ended_wall = Clock::Real().Now().wall;
  job.end = end;
  listener_->Ended(key, std::move(end));
}

void Attempts::EndUnstarted(const std::string& key) {
  AttemptEnd end;
  end.reason = Reason::kCancelRequested;
  end.stopped = end.never_started = true;
  End(key, std::move(end));
}

// Its state is known, and its log as far as it can be had.
void Attempts::Tell(const std::string& key) {
  Job& job = jobs_.at(key);
  ContainerFate fate;
  if (!job.work.command.empty()) fate.program = job.work.command[0];
  fate.stop_sent = job.stop_sent || job.stop_unknown;
  fate.broken_off = job.life.broken_off();
  fate.log_head = HeadOf(job.log_prefix + ".err");
  fate.log_tail = TailOf(job.log_prefix + ".err");
  if (job.log != nullptr) {
    fate.over_limit = job.log->was_over_limit();
    fate.log_fault = job.log->fault();
    fate.stdout_bytes = job.log->bytes(false);
    fate.stderr_bytes = job.log->bytes(true);
  }
  ContainerEnd ended = EndOf(*job.life.state(), fate);
  if (!ended.lost) return End(key, std::move(ended.end));
  job.life.Over();
  listener_->Lost(key, ended.end.message);
}

// --- stopping and cleaning up ---

void Attempts::StopContainer(const std::string& key) {
  Job& job = jobs_.at(key);
  if (job.life.phase() != Phase::kRunning || job.life.state().has_value()) return;
  if (std::exchange(job.forced ? job.kill_taken : job.stop_taken, true)) return;
  job.stop_sent = true;
  const int64_t seconds = (job.grace_micros + 999'999) / 1'000'000;
  const std::string how = job.forced ? "/kill?signal=SIGKILL" : absl::StrCat("/stop?t=", seconds);
  client_.Call("POST", Path(absl::StrCat("/containers/", job.life.id(), how)), "", job.forced ? kCallSeconds : 0,
               [this, key, kill = job.forced](Answer answer) {
                 Job* j = Find(key);
                 if (j == nullptr || (answer.status != 0 && answer.status < 500)) return;
                 (kill ? j->kill_taken : j->stop_taken) = false;
                 if (kill == j->forced) StopAgain(*j);
               });
}

// It may not have been heard, and what is not heard ends nothing.
void Attempts::StopAgain(Job& job) {
  job.stop_at = Clock::Real().Now().mono + PauseAfter(job.stop_tries++);
  CheckAt(job.stop_at);
}

void Attempts::Forget(const std::string& key) {
  bool known = false;
  const auto found = jobs_.find(key);
  if (found != jobs_.end()) {
    if (found->second.image != 0) images_.Leave(found->second.image);
    known = found->second.life.ours();
    if (known) Remove(found->second.life.id());
    jobs_.erase(found);
  }
  if (!known) {  // there may be one by that name, and it may be somebody else's
    client_.Call("GET", Path(absl::StrCat("/containers/", ContainerName(key), "/json")), "", kCallSeconds,
                 [this, key](Answer answer) {
                   const auto seen = ReadInspected(answer.body, key, context_->instance);
                   if (answer.ok() && seen.has_value() && seen->ours) Remove(seen->id);
                 });
  }
  places_.Remove(key);
}

}  // namespace orch::docker
