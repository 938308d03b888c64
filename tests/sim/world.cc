#include "tests/sim/world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/status.h"
#include "server/core/next_generation.h"

namespace orch::sim {
namespace {

constexpr size_t kEventsShown = 50;
constexpr int kPage = 100;

void AppendNumber(std::string* out, int64_t value) {
  char bytes[sizeof(value)];
  memcpy(bytes, &value, sizeof(value));
  out->append(bytes, sizeof(bytes));
}

std::string Text(const EventRow& e) {
  const std::string state = e.type == EventType::kStepStateChanged ? std::string(Name(static_cast<StepState>(e.state)))
                            : e.type == EventType::kArtifactLanded ? absl::StrCat("landed ", e.output)
                                                                   : std::string(Name(static_cast<RunState>(e.state)));
  return absl::StrCat("event ", e.sequence, " run ", e.run, e.ix < 0 ? "" : absl::StrCat(" step ", e.ix),
                      e.attempt == 0 ? "" : absl::StrCat(" attempt ", e.attempt), " ", state,
                      e.reason == Reason::kNone ? "" : absl::StrCat(" ", Name(e.reason)));
}

}  // namespace

World::World(Plan plan) : plan_(std::move(plan)), fate_(plan_.seed, plan_.faults) {
  for (size_t i = 0; i < plan_.runs.size(); ++i) {
    Client& client = clients_.emplace_back();
    client.event = Build(plan_.runs[i], i);
    client.plain = plan_.runs[i].mode == ExecutionMode::kContinueOnFailure && plan_.runs[i].timeout_micros == 0;
    tables_.AddGraph(client.event.header.id, client.event.graph);
    graphs_.push_back(client.event.graph);
    const Graph& graph = *client.event.graph;
    total_steps_ += graph.step_count() * (graph.fans_out_at_run_time() ? 4 : 1);
    fate_.Later(fate_.dice.Delay(2 * plan_.delay), What::kSubmitRun, static_cast<uint32_t>(i));
    watchers_.push_back({static_cast<uint32_t>(i) + 1, 0, 0});
  }
  watchers_.push_back({});
  platform_ = std::make_unique<Platform>(&fate_, plan_, &graphs_);
  hooks_ = std::make_unique<HookPlatform>(&fate_, plan_.hooks_at_once);
  if (fate_.Happens(Fault::kHealthFlap)) {
    const int64_t away = fate_.dice.Delay(20 * kSecond);
    fate_.Later(away, What::kHealth, 0, 0);
    fate_.Later(away + fate_.dice.Delay(60 * kSecond), What::kHealth, 0, 1);
  }
  if (fate_.Has(Fault::kWallJump)) {
    for (int n = 0; n < 3; ++n) fate_.Later(fate_.dice.Delay(40 * kSecond), What::kWallJump);
  }
  fate_.Later(1, What::kStart);
}

std::string World::Play() {
  const int64_t calm_after = 20'000 + 60 * total_steps_;
  const int64_t most = 10 * calm_after;
  while (fate_.broken().empty()) {
    if (++actions_ == calm_after) fate_.Calm();
    if (actions_ > most) {
      fate_.Break("it does not come to an end");
      break;
    }
    if (daemon_ != nullptr && daemon_->mailbox().depth() > 0 && !std::exchange(turn_scheduled_, true)) {
      fate_.Later(fate_.dice.Delay(plan_.turn), What::kTurn, 0, 0, life_);
    }
    int64_t deadline = daemon_ != nullptr ? daemon_->NextDeadline() : INT64_MAX;
    if (deadline != INT64_MAX) deadline += fate_.boot();
    if (fate_.empty() && deadline == INT64_MAX) break;
    if (fate_.NextDue() <= deadline) {
      Do(fate_.Next());
    } else {
      fate_.PassTo(deadline);
      Turn();
    }
  }
  if (fate_.broken().empty()) CheckEnd();
  return fate_.broken().empty() ? "" : Report();
}

void World::Do(const Action& action) {
  const bool of_daemon = action.what == What::kTurn || action.what == What::kOrders || action.what == What::kAside;
  if (of_daemon && (daemon_ == nullptr || action.life != life_)) return;
  switch (action.what) {
    case What::kTurn:
      turn_scheduled_ = false;
      return Turn();
    case What::kOrders:
      daemon_->executor().DoOrders();
      if (fate_.HappensOf(Fault::kCrashBetween, 10'000)) Crash();
      return;
    case What::kAside:
      return daemon_->executor().DoAside(action.a);
    case What::kSubmitRun:
      return SubmitRun(action.a);
    case What::kCancelRun:
      return Cancel(action.a, true, action.b);
    case What::kCancelStep:
      return Cancel(action.a, false, action.b);
    case What::kInvalidate:
      return Invalidate(action.a);
    case What::kPauseRun:
      return PauseOrResume(action.a, true);
    case What::kResumeRun:
      return PauseOrResume(action.a, false);
    case What::kSkipStep:
      return SkipStep(action.a, action.b);
    case What::kRetryRun:
      return RetryRun(action.a, action.b);
    case What::kDeleteRun:
      return DeleteRun(action.a, action.b);
    case What::kJobPublish:
      return Publish(action.a, action.b);
    case What::kWatch:
      watch_scheduled_ = false;
      return Watch();
    case What::kWallJump:
      fate_.Note("wall clock jumps");
      return fate_.JumpWall(static_cast<int64_t>(fate_.dice.Draw(2 * 3600)) * kSecond - 3600 * kSecond);
    case What::kStart:
      Start();
      return;
    case What::kHookEnd:
      return hooks_->End(action.a, action.b != 0);
    case What::kJobEnd:
      CheckStops(action.a);
      return platform_->Do(action);
    case What::kJobStart:
    case What::kJobStopped:
    case What::kReport:
    case What::kHealth:
      return platform_->Do(action);
  }
}

void World::Turn() {
  ++turns_;
  const int64_t before = ledger_.commits;
  const bool alive = daemon_->Play();
  // Who dies right after it has answered may or may not have been heard.
  if (alive || fate_.dice.Percent(50)) PollCalls();
  if (!alive) return Crash();
  if (fate_.HappensOf(Fault::kCrashBetween, 10'000)) return Crash();
  if (ledger_.commits != before && !std::exchange(watch_scheduled_, true)) {
    fate_.Later(fate_.dice.Delay(plan_.delay), What::kWatch);
  }
  if (++since_check_ * 8 >= total_steps_) CheckNow();
}

void World::Start() {
  const bool reboot = life_ > 0 && fate_.Happens(Fault::kReboot);
  if (reboot) {
    fate_.Reboot();
    tables_.Reboot(fate_.Now());
  }
  fate_.Note(reboot ? "start after a reboot" : "start", life_ + 1);
  turn_scheduled_ = false;
  daemon_ = std::make_unique<SimDaemon>(&fate_, plan_, &tables_, platform_.get(), hooks_.get(), ++life_, &ledger_);
}

void World::Crash() {
  fate_.Note("crash");
  daemon_ = nullptr;
  for (Client& client : clients_) client.asking = client.changing = false;
  for (const Call& call : calls_) {  // a client that has no answer asks again
    if (call.kind == Call::Kind::kSubmit) fate_.Later(fate_.dice.Delay(kSecond), What::kSubmitRun, call.run);
    if (call.kind == Call::Kind::kCancelRun) {
      fate_.Later(fate_.dice.Delay(kSecond), What::kCancelRun, call.run, call.number);
    }
    if (call.kind == Call::Kind::kResume) fate_.Later(fate_.dice.Delay(kSecond), What::kResumeRun, call.run);
  }
  calls_.clear();
  fate_.Later(fate_.dice.Delay(5 * kSecond), What::kStart);
}

// --- clients ---

RunKey World::KeyOf(uint32_t number) const {
  if (clients_[number].key != 0) return clients_[number].key;
  const testing::StoreModel::Run* run = tables_.FindById(clients_[number].event.header.id);
  return run == nullptr ? 0 : run->header.key;
}

void World::SubmitRun(uint32_t number) {
  Client& client = clients_[number];
  if (client.acknowledged || client.asking) return;
  if (daemon_ == nullptr) return fate_.Later(kSecond, What::kSubmitRun, number);
  const std::string& id = client.event.header.id;
  Call call{Call::Kind::kSubmit, number, 0, 0, std::make_shared<Receipt>()};
  if (const std::string* answer = tables_.FindRequest(id)) {  // the first answer was lost
    if (*answer != id) return fate_.Break("request ", id, " gets another answer than the first time: ", *answer);
    return Answer(call, absl::OkStatus());
  }
  Post post;
  auto context = std::make_shared<RunContext>();
  context->header = client.event.header;
  context->graph = client.event.graph;
  post.run = std::move(context);
  RunSubmitted event = client.event;
  FindHits(&event);
  post.event = std::move(event);
  post.rows = std::make_unique<Batch>();
  post.rows->requests.push_back({"SubmitRun", "default", id, "", id, fate_.Now().wall});
  post.receipt = call.receipt;
  if (!daemon_->mailbox().Offer(std::move(post)).ok()) return fate_.Later(kSecond, What::kSubmitRun, number);
  client.asking = true;
  calls_.push_back(std::move(call));
}

void World::Cancel(uint32_t number, bool whole, uint32_t argument) {
  if (daemon_ == nullptr) {
    return fate_.Later(kSecond, whole ? What::kCancelRun : What::kCancelStep, number, argument);
  }
  Call call{whole ? Call::Kind::kCancelRun : Call::Kind::kCancelStep, number, argument, 0, std::make_shared<Receipt>()};
  CancelRequested event{KeyOf(number), {}, whole && argument != 0};
  if (!whole) event.steps.push_back(argument);
  Post post;
  post.event = std::move(event);
  post.receipt = call.receipt;
  if (daemon_->mailbox().Offer(std::move(post)).ok()) calls_.push_back(std::move(call));
}

// What a handler finds in the cache: some of what it has for steps all of whose producers it found too.
void World::FindHits(RunSubmitted* event) {
  if (!fate_.dice.Percent(40)) return;
  const Graph& graph = *event->graph;
  std::vector<bool> found(graph.step_count(), false);
  event->found.as_of = daemon_->cache_version();
  event->found.runs = {"earlier"};
  for (uint32_t t = 0; t < graph.templates().size(); ++t) {
    const StepTemplate& step = graph.templates()[t];
    const StepSpec& spec = graph.spec().steps[t];
    if (!spec.options().cache_enabled || spec.options().trigger_rule != TriggerRule::kAllSuccess) continue;
    for (uint32_t instance = 0; instance < step.count; ++instance) {
      const StepIx ix = step.at(instance);
      bool all = fate_.dice.Percent(70);
      for (const InputBinding& input : step.inputs) {
        const StepTemplate& producer = graph.templates()[input.producer];
        for (uint32_t i = 0; i < producer.count; ++i) all = all && !input.early && found[producer.at(i)];
      }
      if (!all) continue;
      found[ix] = true;
      FoundHit& hit = event->found.hits.emplace_back();
      hit.ix = ix;
      hit.key = CacheKeyOf(ix);
      hit.first_output = static_cast<uint32_t>(event->found.outputs.size());
      hit.outputs = static_cast<uint32_t>(spec.outputs.size());
      for (uint32_t o = 0; o < hit.outputs; ++o) event->found.outputs.push_back(OutputOf("hit", o));
    }
  }
}

void World::Invalidate(uint32_t number) {
  if (daemon_ == nullptr) return fate_.Later(kSecond, What::kInvalidate, number);
  CacheEntriesRemoved event;
  event.project = "default";
  const StepIx steps = graphs_[number]->step_count();
  for (StepIx ix = 0; ix < steps && event.keys.size() < 100; ++ix) event.keys.push_back(CacheKeyOf(ix));
  Call call{Call::Kind::kInvalidate, number, 0, 0, std::make_shared<Receipt>()};
  Post post;
  post.event = std::move(event);
  post.receipt = call.receipt;
  if (daemon_->mailbox().Offer(std::move(post)).ok()) calls_.push_back(std::move(call));
}

// What EngineImpl::PublishArtifact does, on the tables.
void World::Publish(uint32_t number, uint32_t output) {
  if (daemon_ == nullptr) return;
  const Platform::Job& job = platform_->job(number);
  const auto attempt = daemon_->outbox().FindAttempt(job.key);
  if (!attempt.has_value()) return;
  Call call{Call::Kind::kPublish, job.run, number, output, std::make_shared<Receipt>()};
  Post post;
  post.event = ArtifactPublished{attempt->ref, OutputOf(job.key, output)};
  post.receipt = call.receipt;
  if (daemon_->mailbox().Offer(std::move(post)).ok()) calls_.push_back(std::move(call));
}

// Of a client that gives no other answer than the first to hear again about.
void World::Ask(Call::Kind kind, uint32_t number, uint32_t argument, Event event) {
  Call call{kind, number, argument, 0, std::make_shared<Receipt>()};
  Post post;
  post.event = std::move(event);
  post.receipt = call.receipt;
  if (daemon_->mailbox().Offer(std::move(post)).ok()) calls_.push_back(std::move(call));
}

void World::PauseOrResume(uint32_t number, bool pause) {
  if (daemon_ == nullptr) return fate_.Later(kSecond, pause ? What::kPauseRun : What::kResumeRun, number);
  if (pause) {
    fate_.Later(fate_.dice.Delay(30 * plan_.delay), What::kResumeRun, number);
    return Ask(Call::Kind::kPause, number, 0, PauseRequested{KeyOf(number)});
  }
  Ask(Call::Kind::kResume, number, 0, ResumeRequested{KeyOf(number)});
}

void World::SkipStep(uint32_t number, uint32_t step) {
  if (daemon_ != nullptr) Ask(Call::Kind::kSkip, number, step, SkipRequested{KeyOf(number), {step}});
}

constexpr uint32_t kMostTries = 200;  // of what needs the end of a run

// What EngineImpl::RetryRun does, on the tables.
void World::RetryRun(uint32_t number, uint32_t tries) {
  Client& client = clients_[number];
  const testing::StoreModel::Run* run = tables_.Find(KeyOf(number));
  if (run == nullptr || run->row.state == RunState::kSucceeded) return;
  if (daemon_ == nullptr || client.changing || !IsTerminal(run->row.state)) {
    if (tries < kMostTries) fate_.Later(fate_.dice.Delay(10 * plan_.delay), What::kRetryRun, number, tries + 1);
    return;
  }
  RunRetried event;
  event.run = tables_.Load(*run);
  if (run->graph->step_count() > 0 && fate_.Happens(Fault::kRetrySteps)) {
    event.unsuccessful = false;
    event.steps.push_back(static_cast<StepIx>(fate_.dice.Draw(run->graph->step_count())));
  }
  if (fate_.Happens(Fault::kRetryOther)) RetryWithOther(number, *run, &event);
  auto context = std::make_shared<RunContext>();
  context->header = event.run.header;
  context->generation = run->row.generation + 1;
  context->graph = event.run.graph;
  Call call{Call::Kind::kRetry, number, static_cast<uint32_t>(run->row.generation), 0, std::make_shared<Receipt>()};
  Post post;
  post.event = std::move(event);
  post.run = std::move(context);
  post.receipt = call.receipt;
  if (!daemon_->mailbox().Offer(std::move(post)).ok()) return;
  client.changing = true;
  calls_.push_back(std::move(call));
}

// One that has some of the steps, and others; or the same ones in another shape.
void World::RetryWithOther(uint32_t number, const testing::StoreModel::Run& run, RunRetried* event) {
  RunPlan other = plan_.runs[number];
  other.seed = fate_.dice.Roll();
  if (fate_.dice.Percent(50)) other.steps = static_cast<uint32_t>(1 + fate_.dice.Draw(other.steps + 3));
  const auto pipeline = Build(other, number).graph;
  const auto next =
      GoOnWith(run.header.key, *run.graph, *run.pipeline, run.header.numbering > 0, run.fanouts, pipeline);
  if (!next.ok()) return fate_.Break("run ", number, " cannot go on: ", next.status().ToString());
  total_steps_ += pipeline->step_count() * (pipeline->fans_out_at_run_time() ? 4 : 1);
  event->run.header.pipeline_id = ++pipelines_;
  tables_.AddPipeline(pipelines_, pipeline);
  const auto touched = [this](const StepSpec&) { return fate_.dice.Percent(20); };
  for (const StepIx ix : ChangedSteps(*run.graph, *next->graph, touched)) event->steps.push_back(ix);
  event->run.graph = next->graph;
  event->numbering = next->numbering;
  event->fanouts = next->fanouts;
}

void World::DeleteRun(uint32_t number, uint32_t tries) {
  Client& client = clients_[number];
  const testing::StoreModel::Run* run = tables_.Find(KeyOf(number));
  if (run == nullptr) return;
  if (daemon_ == nullptr || client.changing || !IsTerminal(run->row.state)) {
    if (tries < kMostTries) fate_.Later(fate_.dice.Delay(10 * plan_.delay), What::kDeleteRun, number, tries + 1);
    return;
  }
  client.changing = true;
  Ask(Call::Kind::kDelete, number, 0,
      RunsDeleted{{{run->header.key, run->header.id, run->header.name, "p", run->row.last_sequence, 0}}});
}

// Of what may be refused, since the run goes on meanwhile; but then for a reason.
void World::AnswerControl(const Call& call, const absl::Status& status) {
  Client& client = clients_[call.run];
  if (call.kind == Call::Kind::kRetry || call.kind == Call::Kind::kDelete) client.changing = false;
  const testing::StoreModel::Run* run = tables_.Find(KeyOf(call.run));
  const std::string reason = ReasonOf(status);
  const auto broken = [&](const char* what) {
    fate_.Break("run ", call.run, " ", what, ": ", status.ToString(), ", it is ",
                run == nullptr ? "gone" : Name(run->row.state));
  };
  if (run == nullptr) {
    if (call.kind != Call::Kind::kDelete && reason != "RUN_ENDED") broken("is gone and answers");
    return;
  }
  switch (call.kind) {
    case Call::Kind::kPause:
    case Call::Kind::kResume:
      if (status.ok() && run->row.version == 0) broken("is paused or resumed and not stored");
      if (!status.ok() && reason != "RUN_ENDED" && reason != "RUN_STOPPING") broken("is not paused or resumed");
      return;
    case Call::Kind::kSkip:
      if (status.ok() && run->steps[call.number].state != StepState::kSkipped && run->row.generation == 1) {
        broken("has no such skipped step");
      }
      if (!status.ok() && reason != "STEP_STARTED" && reason != "STEP_ENDED" && reason != "RUN_ENDED") {
        broken("refuses to skip a step");
      }
      return;
    case Call::Kind::kRetry:
      if (!status.ok()) return broken("is not retried");
      if (run->row.generation != static_cast<int>(call.number) + 1) broken("is at another generation");
      if (fate_.Happens(Fault::kRetryRun)) fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kRetryRun, call.run);
      if (fate_.Happens(Fault::kCancelRun)) {
        client.plain = false;
        fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kCancelRun, call.run, 0);
      }
      return;
    case Call::Kind::kDelete:
      if (reason == "RUN_NOT_ENDED" && tables_.HasHooks(run->header.key)) {  // they had not ended
        fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kDeleteRun, call.run);
        return;
      }
      return broken("was to be deleted and is there");
    case Call::Kind::kSubmit:
    case Call::Kind::kCancelRun:
    case Call::Kind::kCancelStep:
    case Call::Kind::kInvalidate:
    case Call::Kind::kPublish:
      return;
  }
}

void World::PollCalls() {
  for (size_t n = 0; n < calls_.size();) {
    const absl::Status status = calls_[n].receipt->Wait(0);
    if (ReasonOf(status) == "COMMIT_SLOW") {
      ++n;
      continue;
    }
    const Call call = std::move(calls_[n]);
    calls_[n] = std::move(calls_.back());
    calls_.pop_back();
    Answer(call, status);
  }
}

// What was acknowledged is on the disk.
void World::Answer(const Call& call, const absl::Status& status) {
  if (call.kind == Call::Kind::kInvalidate) {  // whatever became of the run whose steps they were
    if (!status.ok()) fate_.Break("refused: ", status.ToString());
    return;
  }
  Client& client = clients_[call.run];
  if (call.kind >= Call::Kind::kPause) return AnswerControl(call, status);
  if (WasDeleted(call.run)) return;
  if (!status.ok()) {
    if (ReasonOf(status) != "ATTEMPT_STALE") fate_.Break("refused: ", status.ToString());
    return;
  }
  const testing::StoreModel::Run* run = tables_.FindById(client.event.header.id);
  if (run == nullptr || run->row.version == 0) return fate_.Break("run ", call.run, " is acknowledged and not stored");
  switch (call.kind) {
    case Call::Kind::kSubmit: {
      if (tables_.FindRequest(client.event.header.id) == nullptr) {
        return fate_.Break("the request of run ", call.run, " is acknowledged and not stored");
      }
      client.acknowledged = true;
      client.asking = false;
      client.key = run->header.key;
      if (fate_.Happens(Fault::kPauseRun)) {
        fate_.Later(fate_.dice.Delay(10 * plan_.delay), What::kPauseRun, call.run);
      }
      if (run->graph->step_count() > 0 && fate_.Happens(Fault::kSkipStep)) {
        client.plain = false;
        fate_.Later(fate_.dice.Delay(10 * plan_.delay), What::kSkipStep, call.run,
                    static_cast<uint32_t>(fate_.dice.Draw(run->graph->step_count())));
      }
      if (fate_.Happens(Fault::kRetryRun)) fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kRetryRun, call.run);
      if (fate_.Happens(Fault::kDeleteRun)) {
        fate_.Later(fate_.dice.Delay(40 * plan_.delay), What::kDeleteRun, call.run);
      }
      if (fate_.Happens(Fault::kCancelRun)) {
        client.plain = false;
        const uint32_t forced = fate_.dice.Percent(30) ? 1 : 0;
        fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kCancelRun, call.run, forced);
        if (fate_.dice.Percent(30)) fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kCancelRun, call.run, 1);
      }
      if (fate_.Happens(Fault::kInvalidate)) {
        fate_.Later(fate_.dice.Delay(20 * plan_.delay), What::kInvalidate, call.run);
      }
      if (run->graph->step_count() > 0 && fate_.Happens(Fault::kCancelStep)) {
        client.plain = false;
        fate_.Later(fate_.dice.Delay(10 * plan_.delay), What::kCancelStep, call.run,
                    static_cast<uint32_t>(fate_.dice.Draw(run->graph->step_count())));
      }
      return;
    }
    case Call::Kind::kCancelRun:
      if (run->row.generation > 1) return;  // it may have been of the one before
      if (run->row.state != RunState::kCancelling && !IsTerminal(run->row.state)) {
        return fate_.Break("the cancel of run ", call.run, " is acknowledged, it is ", Name(run->row.state));
      }
      if (run->row.state == RunState::kCancelling) client.cancelled = run->row.generation;
      return;
    case Call::Kind::kCancelStep: {
      const StepState state = run->steps[call.number].state;
      if (run->row.generation > 1) return;
      if (IsTerminal(run->row.state) || IsTerminal(state) || state == StepState::kStopping) return;
      const auto& attempts = run->attempts[call.number];
      if (!attempts.empty() && attempts.back().state == AttemptState::kStoring) return;  // too late: it counts
      return fate_.Break("the cancel of step ", call.number, " is acknowledged, it is ", Name(state));
    }
    case Call::Kind::kInvalidate:
      return;
    case Call::Kind::kPause:
    case Call::Kind::kResume:
    case Call::Kind::kSkip:
    case Call::Kind::kRetry:
    case Call::Kind::kDelete:
      return;  // AnswerControl
    case Call::Kind::kPublish: {
      const Platform::Job& job = platform_->job(call.number);
      const std::string digest = DigestOf(job.key, call.output);
      const bool landed = std::any_of(run->artifacts.begin(), run->artifacts.end(),
                                      [&](size_t place) { return tables_.artifacts()[place].digest == digest; });
      if (!landed) return fate_.Break("a publication of step ", job.ix, " is acknowledged and not stored");
      return;
    }
  }
}

// --- watchers ---

void World::Watch() {
  if (daemon_ == nullptr) return;
  bool more = false;
  const int64_t last = daemon_->hub().last_sequence();
  for (Watcher& watcher : watchers_) {
    Read(watcher);
    more = more || watcher.after < last;
  }
  if (more && !std::exchange(watch_scheduled_, true)) {
    fate_.Later(fate_.dice.Delay(plan_.delay), What::kWatch);
  }
}

void World::Read(Watcher& watcher) {
  const std::vector<EventRow>& table = tables_.events();
  const RunKey key = watcher.run == 0 ? 0 : KeyOf(watcher.run - 1);
  if (watcher.run != 0 && key == 0) return;
  const auto see = [&](const EventRow& event) {
    if (event.sequence <= watcher.after || (key == 0 && event.sequence != watcher.after + 1)) {
      fate_.Break("a watcher at ", watcher.after, " is given event ", event.sequence);
    }
    if (event.sequence > static_cast<int64_t>(table.size())) {
      return fate_.Break("a watcher sees event ", event.sequence, " before it is durable");
    }
    const EventRow& stored = table[static_cast<size_t>(event.sequence) - 1];
    if (stored.run != event.run || stored.ix != event.ix || stored.state != event.state || stored.type != event.type) {
      fate_.Break("a watcher sees another event ", event.sequence, " than is stored");
    }
    watcher.after = event.sequence;
    ++watcher.seen;
  };
  Hub::Page page = daemon_->hub().Read(key, watcher.after, kPage);
  if (!page.behind) {
    for (const auto& event : page.events) see(*event);
    watcher.after = std::max(watcher.after, page.after);
    return;
  }
  // Too slow for the ring: from the table, as far as a page goes.
  const auto end = std::min(table.size(), static_cast<size_t>(watcher.after) + kPage);
  for (size_t n = static_cast<size_t>(watcher.after); n < end; ++n) {
    if (key == 0 || table[n].run == key) see(table[n]);
    watcher.after = table[n].sequence;
  }
}

World::Figures World::figures() const {
  Figures out;
  out.runs = static_cast<int64_t>(clients_.size());
  for (const auto& [key, run] : tables_.runs()) {
    for (const uint32_t ended : run.ended) out.life_cycles += ended;
  }
  out.attempts = platform_->made();
  out.restarts = static_cast<int64_t>(life_) - 1;
  out.commits = ledger_.commits;
  out.turns = turns_;
  return out;
}

std::string World::Log() const {
  std::string out;
  for (const EventRow& e : tables_.events()) {
    for (const int64_t number :
         {e.sequence, e.time, static_cast<int64_t>(e.type), e.run, e.ix, static_cast<int64_t>(e.attempt),
          static_cast<int64_t>(e.state), static_cast<int64_t>(e.reason), static_cast<int64_t>(e.exit_code.value_or(-1)),
          e.artifact}) {
      AppendNumber(&out, number);
    }
    absl::StrAppend(&out, e.message, "\n", e.output, "\n");
  }
  return out;
}

std::string World::Report() const {
  std::string out = absl::StrCat(fate_.broken(), "\n", plan_.Describe(), "\nwhat happened last:");
  for (const std::string& note : fate_.Notes()) absl::StrAppend(&out, "\n  ", note);
  const std::vector<EventRow>& events = tables_.events();
  absl::StrAppend(&out, "\nthe last events:");
  for (size_t n = events.size() > kEventsShown ? events.size() - kEventsShown : 0; n < events.size(); ++n) {
    absl::StrAppend(&out, "\n  ", Text(events[n]));
  }
  return out;
}

}  // namespace orch::sim
