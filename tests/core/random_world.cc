#include "tests/core/random_world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/core/rules.h"

namespace orch::testing {
namespace {

constexpr int64_t kSecondMicros = 1'000'000;
constexpr int kMostActions = 60'000;

StoredOutput OutputOf(uint32_t number, const std::string& salt) {
  StoredOutput output;
  output.output = number;
  output.blob.digest = Sha256Of(absl::StrCat(salt, "/", number));
  output.blob.size = 1;
  return output;
}

}  // namespace

RandomWorld::RandomWorld(uint64_t seed) : random_(seed * 0x9E3779B97F4A7C15ull + 1) {
  const auto some = [&](int most) { return Chance(50) ? 0 : static_cast<int>(Draw(static_cast<uint64_t>(most))) + 1; };
  faults_.lost_answer = some(30);
  faults_.refuse = some(30);
  faults_.refuse_for_good = some(5);
  faults_.repeat = some(30);
  faults_.late = some(30);
  faults_.fail = some(40);
  faults_.lose = some(10);
  faults_.ignore_stop = some(50);
  faults_.store_fails = some(10);
  faults_.crash = some(60);
  faults_.cancel = some(40);
  faults_.cancel_step = some(20);
  faults_.forget = some(20);
  policy_.instance = absl::StrCat("world-", seed);
  if (Chance(50)) {  // everything in small slices
    policy_.slice = 1 + static_cast<int>(Draw(4));
    policy_.grants = 1 + static_cast<int>(Draw(4));
  }
  if (Chance(60)) capacity_["cpu"] = 1000 * static_cast<int64_t>(1 + Draw(4));
  core_ = std::make_unique<Dispatcher>(policy_);
  Configure();
  const size_t runs = 1 + Draw(3);
  for (size_t i = 0; i < runs; ++i) {
    Submission submission;
    PipelineBuilder pipeline = RandomPipeline();
    RunSubmitted& event = submission.event;
    event.header.id = absl::StrCat("run-", i);
    event.header.name = event.header.id;
    event.header.project = "default";
    event.header.pipeline = "p";
    event.header.orchestrator = "o";
    event.header.execution_mode = static_cast<ExecutionMode>(Chance(60) ? 1 : 2 + Draw(2));
    event.header.max_parallel = Chance(30) ? 1 + static_cast<int>(Draw(3)) : 0;
    event.header.timeout_micros = Chance(10) ? Delay(60 * kSecondMicros) : 0;
    event.header.priority = static_cast<int>(Draw(3));
    event.graph = pipeline.Graph();
    store_.AddGraph(event.header.id, event.graph);
    submission.plain =
        event.header.execution_mode == ExecutionMode::kContinueOnFailure && event.header.timeout_micros == 0;
    submissions_.push_back(std::move(submission));
    Later(Delay(2 * kSecondMicros), {0, 0, Action::Kind::kSubmitRun, nullptr, "", static_cast<uint32_t>(i)});
  }
}

PipelineBuilder RandomWorld::RandomPipeline() {
  PipelineBuilder builder;
  const size_t steps = 1 + Draw(12);
  std::vector<std::string> names;
  std::vector<int> width;    // 0: empty fan-out; -1: plain
  std::vector<int> outputs;  // 0 to 2
  for (size_t i = 0; i < steps; ++i) {
    names.push_back(absl::StrCat("s", i));
    width.push_back(Chance(25) ? static_cast<int>(Draw(4)) : -1);
    outputs.push_back(static_cast<int>(Draw(3)));
    builder.Step(names[i]);
    std::vector<std::string> values;
    for (int v = 0; v < width[i]; ++v) values.push_back(std::to_string(v));
    if (width[i] >= 0) builder.Foreach("k", values);
    for (int o = 0; o < outputs[i]; ++o) builder.Out(absl::StrCat("o", o));
    const size_t upstreams = i == 0 ? 0 : Draw(4);
    for (size_t u = 0; u < upstreams; ++u) {
      const size_t from = Draw(i);
      if (outputs[from] == 0 || Chance(30)) {
        builder.After({names[from]});
        continue;
      }
      const std::string output = absl::StrCat(".o", Draw(static_cast<uint64_t>(outputs[from])));
      const std::string name = absl::StrCat("i", u);
      if (width[from] < 0) {
        builder.In(name, names[from] + output, Chance(30));
      } else if (width[i] > 0 && width[i] <= width[from] && Chance(50)) {
        builder.In(name, names[from] + "[item]" + output, Chance(30));
      } else if (width[from] > 0 && Chance(30)) {
        builder.In(name, absl::StrCat(names[from], "[", Draw(static_cast<uint64_t>(width[from])), "]", output),
                   Chance(30));
      } else {
        builder.In(name, names[from] + "[*]" + output);
      }
    }
    if (Chance(30)) builder.Rule(static_cast<TriggerRule>(1 + Draw(6)));
    if (Chance(50)) builder.Attempts(1 + static_cast<int>(Draw(4)), Delay(2 * kSecondMicros));
    if (Chance(30)) builder.options().retry.jitter = 0.3;
    if (Chance(15)) builder.Queue(Delay(10 * kSecondMicros));
    if (Chance(15)) builder.Run(Delay(10 * kSecondMicros));
    if (Chance(20)) builder.Cache();
    if (Chance(20)) builder.Pool("db", 1);
    if (Chance(50)) builder.Cpu(500 * static_cast<int64_t>(Draw(3)));
    if (Chance(20)) builder.Priority(static_cast<int>(Draw(5)));
  }
  return builder;
}

void RandomWorld::Later(int64_t delay, Action action) {
  action.due = now_ + delay;
  action.tie = next_tie_++;
  actions_.push(std::move(action));
}

void RandomWorld::Send(Event event, int64_t delay) {
  if (Chance(faults_.repeat)) {
    Later(delay + Delay(kSecondMicros), {0, 0, Action::Kind::kEvent, std::make_shared<Event>(event), "", 0});
  }
  if (Chance(faults_.late)) delay += Delay(3 * kSecondMicros);
  Later(delay, {0, 0, Action::Kind::kEvent, std::make_shared<Event>(std::move(event)), "", 0});
}

// What the platform says of a job at this moment.
void RandomWorld::Report(const Job& job, int64_t delay) {
  Send(AttemptAccepted{job.ref, "handle", "ext", ""}, delay);
  if (job.started) Send(AttemptStarted{job.ref, "ext", "node", 0}, delay + 1);
  if (job.ended) Send(AttemptEnded{job.ref, job.end}, delay + 2);
}

void RandomWorld::Configure() {
  (void)core_->Apply(OrchestratorChanged{"o", true, capacity_, 0}, Time());
  (void)core_->Apply(PoolChanged{"db", 1, true}, Time());
}

void RandomWorld::SubmitRun(size_t number) {
  Submission& submission = submissions_[number];
  if (submission.acknowledged) return;
  RunSubmitted copy = submission.event;
  Apply(std::move(copy));
  // The client asks again until it has an answer.
  for (const auto& [key, header] : store_.headers()) {
    if (header.id != submission.event.header.id) continue;
    submission.acknowledged = true;
    if (Chance(faults_.cancel)) {
      submission.plain = false;
      Send(CancelRequested{key, {}, Chance(30)}, Delay(20 * kSecondMicros));
      if (Chance(30)) Send(CancelRequested{key, {}, true}, Delay(20 * kSecondMicros));
    }
    if (Chance(faults_.cancel_step) && submission.event.graph->step_count() > 0) {
      submission.plain = false;
      Send(CancelRequested{key, {static_cast<StepIx>(Draw(submission.event.graph->step_count()))}, Chance(30)},
           Delay(10 * kSecondMicros));
    }
  }
  if (!submission.acknowledged) {
    Later(kSecondMicros, {0, 0, Action::Kind::kSubmitRun, nullptr, "", static_cast<uint32_t>(number)});
  }
}

void RandomWorld::Apply(Event event) {
  const absl::Status status = core_->Apply(std::move(event), Time());
  if (!status.ok() && ReasonOf(status) != "ATTEMPT_STALE") Broken(absl::StrCat("refused: ", status.ToString()));
  Settle();
}

void RandomWorld::Settle() {
  for (int turn = 0; turn < 10'000; ++turn) {
    core_->Tick(Time());
    const absl::Status status = core_->CheckInvariants();
    if (!status.ok()) return Broken(std::string(status.message()));
    CheckSlots();
    // Stores may begin before the commit; what they made is lost with a crash.
    std::vector<Intent> at_once = core_->TakeAtOnce();
    Decisions decisions = core_->Take();
    for (Intent& intent : at_once) decisions.intents.push_back(std::move(intent));
    const int crash = Draw(1000) < static_cast<uint64_t>(faults_.crash) ? 1 + static_cast<int>(Draw(3)) : 0;
    if (crash == 1) return Restart();  // before the commit
    store_.Commit(decisions.batch);
    for (const EventRow& e : decisions.batch.events) {
      if (e.type == EventType::kRunStateChanged && e.state >= static_cast<uint8_t>(RunState::kHalting)) {
        stopping_.insert(e.run);
      }
      if (e.type == EventType::kStepStateChanged && e.state == static_cast<uint8_t>(StepState::kSubmitting) &&
          stopping_.count(e.run) > 0) {
        Broken(absl::StrCat("step ", e.ix, " of run ", e.run, " starts while the run stops"));
      }
      Note(absl::StrCat("event ", e.sequence, " run ", e.run, " step ", e.ix, " attempt ", e.attempt, " type ",
                        static_cast<int>(e.type), " state ", static_cast<int>(e.state), " ", Name(e.reason)));
    }
    if (!store_.faults().empty()) return Broken(store_.faults().front());
    if (crash == 2) return Restart();  // after it, before any effect
    size_t performed = crash == 3 ? Draw(decisions.intents.size() + 1) : decisions.intents.size();
    for (Intent& intent : decisions.intents) {
      if (performed-- == 0) break;
      Perform(intent);
      if (!broken_.empty()) return;
    }
    if (crash == 3) return Restart();  // in the middle of the effects
    if (core_->NextDeadline() > now_) return;
  }
  Broken("it never comes to rest");
}

void RandomWorld::Restart() {
  ++restarts_;
  ++epoch_;
  Note("restart");
  // What it was doing itself is lost with it, and half of what was under way to it.
  std::vector<Action> kept;
  while (!actions_.empty()) {
    const Action& top = actions_.top();
    const bool of_daemon = top.kind == Action::Kind::kEvent || top.kind == Action::Kind::kAsk;
    const bool inside = top.kind == Action::Kind::kEvent && (std::holds_alternative<OutputsStored>(*top.event) ||
                                                             std::holds_alternative<StepResolved>(*top.event));
    if (!inside && (!of_daemon || Chance(50))) kept.push_back(actions_.top());
    actions_.pop();
  }
  for (Action& action : kept) actions_.push(std::move(action));
  now_ += Delay(5 * kSecondMicros);
  core_ = std::make_unique<Dispatcher>(store_.Continue(policy_));
  for (StoredRun& run : store_.Open()) core_->Restore(std::move(run), Time());
  Configure();
  for (const auto& [row, step] : core_->LiveAttempts()) {
    const auto job = platform_.find(row.key);
    if (job != platform_.end() && !job->second.ended && Chance(faults_.forget)) {
      job->second.ended = true;  // it and its processes are gone
      job->second.end.reason = Reason::kLost;
    }
    Later(Delay(kSecondMicros), {0, 0, Action::Kind::kAsk, nullptr, row.key, row.number});
  }
  Settle();
}

void RandomWorld::Perform(Intent& intent) {
  Note(absl::StrCat("intent ", static_cast<int>(intent.kind), " run ", intent.ref.run, " step ", intent.ref.ix,
                    " attempt ", intent.ref.attempt, intent.forced ? " forced" : ""));
  switch (intent.kind) {
    case Intent::Kind::kSubmitAttempt:
      CheckOrder(intent);
      return Submit(intent);
    case Intent::Kind::kCancelAttempt:
      return Stop(intent);
    case Intent::Kind::kReleaseAttempt: {
      const auto job = platform_.find(intent.key);
      if (job != platform_.end() && !job->second.ended) Broken("an attempt is released while its job runs");
      return;
    }
    case Intent::Kind::kStoreOutputs:
      return Store(intent);
    case Intent::Kind::kResolveStep:
      return Resolve(intent);
  }
}

void RandomWorld::Submit(const Intent& intent) {
  const auto known = platform_.find(intent.key);
  if (known != platform_.end()) return Report(known->second, Delay(kSecondMicros));  // one key, one job
  if (Chance(faults_.refuse)) {
    for (int i = Chance(faults_.repeat) ? 2 : 1; i > 0; --i) {
      Later(Delay(kSecondMicros),
            {0, 0, Action::Kind::kEvent,
             std::make_shared<Event>(AttemptRefused{intent.ref, true, Reason::kSubmitRefused, "busy"}), intent.key, 0});
    }
    return;
  }
  if (Chance(faults_.refuse_for_good)) {
    refused_.insert(intent.key);
  }
  if (refused_.count(intent.key) > 0) {
    return Send(AttemptRefused{intent.ref, false, Reason::kSubmitRefused, "never"}, Delay(kSecondMicros));
  }
  const bool lost = Chance(faults_.lost_answer);
  if (lost) {
    Later(Delay(2 * kSecondMicros), {0, 0, Action::Kind::kAsk, nullptr, intent.key, intent.ref.attempt});
    if (Chance(50)) return;  // and it never arrived
  }
  const AttemptRow* row = store_.FindAttempt(intent.ref.run, intent.ref.ix, intent.ref.attempt);
  if (row == nullptr || row->key != intent.key) return Broken("submitted before it is on record");
  Job& job = platform_[intent.key];
  job.ref = intent.ref;
  ++job.starts;
  ++starts_;
  if (job.starts > 1) return Broken("a second job for one key");
  job.ignores_stop = Chance(faults_.ignore_stop);
  const size_t outputs = store_.GraphOf(intent.ref.run)->SpecOf(intent.ref.ix).outputs.size();
  for (uint32_t o = 0; o < outputs; ++o) {
    if (Chance(40)) job.publishes.push_back(o);
  }
  if (Chance(faults_.lose)) {
    job.end.reason = Reason::kLost;
  } else if (Chance(faults_.fail)) {
    job.end.reason = Chance(20) ? Reason::kEvicted : Reason::kExitCode;
    job.end.never_started = job.end.reason == Reason::kEvicted;
    job.end.exit_code = 1;
  }
  int64_t at = Delay(kSecondMicros);
  if (!lost && Chance(70)) Send(AttemptAccepted{job.ref, "handle", "ext", "url"}, at);
  at += Delay(2 * kSecondMicros);
  Later(at, {0, 0, Action::Kind::kJobStart, nullptr, intent.key, 0});
  for (const uint32_t o : job.publishes) {
    Later(at + Delay(3 * kSecondMicros), {0, 0, Action::Kind::kJobPublish, nullptr, intent.key, o});
  }
  Later(at + 3 * kSecondMicros + Delay(3 * kSecondMicros), {0, 0, Action::Kind::kJobEnd, nullptr, intent.key, 0});
}

void RandomWorld::Stop(const Intent& intent) {
  const auto found = platform_.find(intent.key);
  if (found == platform_.end() || found->second.ended) return;
  if (found->second.ignores_stop && !intent.forced) return;
  found->second.stopping = true;
  Later(Delay(2 * kSecondMicros), {0, 0, Action::Kind::kJobStopped, nullptr, intent.key, 0});
}

void RandomWorld::Ask(const std::string& key, const AttemptRef& ref) {
  const auto found = platform_.find(key);
  if (found == platform_.end()) {
    Later(Delay(kSecondMicros), {0, 0, Action::Kind::kEvent, std::make_shared<Event>(AttemptNotFound{ref}), key, 0});
  } else {
    Report(found->second, Delay(kSecondMicros));
  }
}

void RandomWorld::Store(const Intent& intent) {
  OutputsStored stored{intent.ref, {}, Reason::kNone, "", false};
  if (Chance(faults_.store_fails)) {
    stored.failure = Reason::kStoreFailed;
  } else {
    for (uint32_t o = 0; o < intent.published.size(); ++o) {
      if (!intent.published[o]) stored.outputs.push_back(OutputOf(o, intent.key));
    }
  }
  Send(std::move(stored), Delay(kSecondMicros));
}

void RandomWorld::Resolve(const Intent& intent) {
  StepResolved resolved;
  resolved.run = intent.ref.run;
  resolved.ix = intent.ref.ix;
  resolved.cache_key = Sha256Of(absl::StrCat("key/", intent.ref.ix));
  if (Chance(5)) {
    resolved.failure = Reason::kInputMissing;
  } else if (Chance(30)) {
    resolved.hit = true;
    resolved.hit_run = "earlier";
    const size_t outputs = store_.GraphOf(intent.ref.run)->SpecOf(intent.ref.ix).outputs.size();
    for (uint32_t o = 0; o < outputs; ++o) resolved.outputs.push_back(OutputOf(o, "hit"));
  }
  Send(std::move(resolved), Delay(kSecondMicros));
}

void RandomWorld::Do(Action& action) {
  const auto found = platform_.find(action.key);
  Job* job = found == platform_.end() ? nullptr : &found->second;
  switch (action.kind) {
    case Action::Kind::kEvent:
      // A platform does not say that it has no such job, or refused it, after it was given one.
      if (!action.key.empty() && job != nullptr) return;
      Note(absl::StrCat("deliver ", action.event->index()));
      return Apply(*action.event);
    case Action::Kind::kSubmitRun:
      return SubmitRun(action.number);
    case Action::Kind::kAsk:
      for (const auto& [row, step] : core_->LiveAttempts()) {
        if (row.key == action.key) return Ask(row.key, {row.run, row.ix, row.number});
      }
      return;
    case Action::Kind::kJobStart:
      if (job->ended) return;
      job->started = true;
      return Send(AttemptStarted{job->ref, "ext", "node", 0}, Delay(1000));
    case Action::Kind::kJobPublish:
      if (job->ended) return;
      return Send(ArtifactPublished{job->ref, OutputOf(action.number, action.key)}, Delay(1000));
    case Action::Kind::kJobEnd:
      if (job->ended) return;
      job->ended = true;
      return Send(AttemptEnded{job->ref, job->end}, Delay(1000));
    case Action::Kind::kJobStopped:
      if (job->ended) return;
      job->ended = true;
      job->end = {};
      job->end.reason = Reason::kSignaled;
      job->end.stopped = true;
      job->end.never_started = !job->started;
      return Send(AttemptEnded{job->ref, job->end}, Delay(1000));
  }
}

// A step is submitted only when what its rule asks of its upstreams has come to pass.
void RandomWorld::CheckOrder(const Intent& intent) {
  const auto graph = store_.GraphOf(intent.ref.run);
  const StepSpec& spec = graph->SpecOf(intent.ref.ix);
  const uint32_t t = graph->TemplateOf(intent.ref.ix);
  const bool all_success = spec.options().trigger_rule == TriggerRule::kAllSuccess;
  const auto ok = [&](StepIx ix) {
    const StepRow* row = store_.FindStep(intent.ref.run, ix);
    return row != nullptr && IsOk(row->state);
  };
  const std::vector<InputBinding>& inputs = graph->templates()[t].inputs;
  if (intent.inputs.size() != inputs.size()) return Broken("an intent with the wrong number of inputs");
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const ArtifactId id : intent.inputs[i]) {
      if (id == 0 && !all_success) continue;  // simply absent
      const auto artifact = std::find_if(store_.artifacts().begin(), store_.artifacts().end(),
                                         [&](const ArtifactRow& a) { return a.id == id; });
      if (artifact == store_.artifacts().end()) return Broken(absl::StrCat("input ", i, " has not landed: ", id));
      if (!inputs[i].early && !ok(artifact->ix)) return Broken("an input counts before its producer has succeeded");
    }
  }
  if (!all_success) return;
  for (const std::string& after : spec.after) {
    for (uint32_t u = 0; u < graph->templates().size(); ++u) {
      if (graph->spec().steps[u].name != after) continue;
      for (uint32_t i = 0; i < graph->templates()[u].count; ++i) {
        if (!ok(graph->templates()[u].first + i)) return Broken(absl::StrCat("started before `after` ", after));
      }
    }
  }
}

void RandomWorld::CheckSlots() {
  for (const auto& [pool, used] : core_->PoolUse()) {
    int64_t limit = INT64_MAX;
    if (pool == "o/cpu" && capacity_.count("cpu") > 0) limit = capacity_["cpu"];
    if (pool == "pool/db") limit = 1;
    for (const auto& [key, header] : store_.headers()) {
      if (pool == absl::StrCat("run/", key) && header.max_parallel > 0) limit = header.max_parallel;
    }
    if (used > limit) Broken(absl::StrCat(pool, ": ", used, " of ", limit, " slots in use"));
  }
}

void RandomWorld::CheckEnd() {
  for (size_t i = 0; i < submissions_.size(); ++i) {
    if (!submissions_[i].acknowledged) return Broken("a run was never accepted");
  }
  if (core_->live_runs() > 0) return Broken("a run never ends");
  for (const auto& [key, job] : platform_) {
    if (!job.ended) return Broken(absl::StrCat("a job of run ", job.ref.run, " step ", job.ref.ix, " is left running"));
  }
  for (const auto& [key, header] : store_.headers()) {
    const auto graph = store_.GraphOf(key);
    if (!IsTerminal(store_.FindRun(key)->state)) return Broken("a run is stored as open");
    const auto submission = std::find_if(submissions_.begin(), submissions_.end(),
                                         [&, id = header.id](const auto& s) { return s.event.header.id == id; });
    bool failed = false;
    for (StepIx ix = 0; ix < graph->step_count(); ++ix) {
      const StepRow* row = store_.FindStep(key, ix);
      if (row == nullptr || !IsTerminal(row->state)) return Broken(absl::StrCat("step ", ix, " is stored as open"));
      failed = failed || row->state == StepState::kFailed;
    }
    if (!submission->plain) continue;
    const RunState expected = failed ? RunState::kFailed : RunState::kSucceeded;
    if (store_.FindRun(key)->state != expected) return Broken("the run's end does not follow from its steps");
    // Each step was judged by its upstreams' ends and nothing else.
    std::vector<uint8_t> seen(graph->step_count(), 0);
    std::vector<bool> early(graph->step_count(), false);
    for (const StepTemplate& producer : graph->templates()) {
      for (const Edge& edge : producer.edges) {
        const StepTemplate& consumer = graph->templates()[edge.consumer];
        for (uint32_t c = 0; c < consumer.count; ++c) {
          if (edge.early) early[consumer.first + c] = true;
          if (producer.count == 0) seen[consumer.first + c] |= kSeenOk;
          for (uint32_t p = 0; p < producer.count; ++p) {
            if (edge.kind == EdgeKind::kIndex && p != edge.index) continue;
            if (edge.kind == EdgeKind::kItem) {
              const auto begin = edge.item_consumers.begin() + edge.item_offsets[p];
              const auto end = edge.item_consumers.begin() + edge.item_offsets[p + 1];
              if (std::find(begin, end, c) == end) continue;
            }
            const StepRow* row = store_.FindStep(key, producer.first + p);
            seen[consumer.first + c] |= OutcomeOf(row->state, row->reason);
          }
        }
      }
    }
    for (StepIx ix = 0; ix < graph->step_count(); ++ix) {
      if (early[ix]) continue;
      const Reason unmet = JudgeTrigger(graph->SpecOf(ix).options().trigger_rule, seen[ix]);
      const StepRow* row = store_.FindStep(key, ix);
      if ((row->state == StepState::kSkipped) != (unmet != Reason::kNone) ||
          (unmet != Reason::kNone && row->reason != unmet)) {
        return Broken(absl::StrCat("step ", row->name, " is ", Name(row->state), " ", Name(row->reason),
                                   ", its upstreams say ", Name(unmet)));
      }
    }
  }
}

void RandomWorld::Broken(std::string what) {
  if (!broken_.empty()) return;
  broken_ = std::move(what);
  for (size_t i = notes_.size() > 60 ? notes_.size() - 60 : 0; i < notes_.size(); ++i) {
    absl::StrAppend(&broken_, "\n  ", notes_[i]);
  }
}

void RandomWorld::Note(std::string what) { notes_.push_back(absl::StrCat(now_, " ", what)); }

std::string RandomWorld::Play() {
  Settle();
  for (int n = 0; broken_.empty(); ++n) {
    if (n > kMostActions) {
      Broken("it does not end");
      break;
    }
    bool all_in = true;
    for (const Submission& submission : submissions_) all_in = all_in && submission.acknowledged;
    const int64_t due = core_->NextDeadline();
    if (actions_.empty() && (due == INT64_MAX || (all_in && core_->live_runs() == 0))) break;
    if (!actions_.empty() && actions_.top().due <= due) {
      Action action = actions_.top();
      actions_.pop();
      now_ = std::max(now_, action.due);
      Do(action);
    } else {
      now_ = std::max(now_, due);
      Settle();
    }
  }
  if (broken_.empty()) CheckEnd();
  Sha256 hash;
  for (const std::string& note : notes_) hash.Update(note + "\n");
  trace_hash_ = hash.Finish();
  return broken_;
}

}  // namespace orch::testing
