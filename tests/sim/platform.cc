#include "tests/sim/platform.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"

namespace orch::sim {

class PlatformBackend : public Backend {
 public:
  PlatformBackend(Platform* platform, bool accept_is_start, int64_t cpu_millis)
      : platform_(platform), accept_is_start_(accept_is_start) {
    if (cpu_millis > 0) capacity_.cpu_millis = cpu_millis;
  }
  absl::Status Start(Listener* listener) override {
    platform_->listener_ = listener;
    return absl::OkStatus();
  }
  void Stop() override {}
  Capacity capacity() const override { return capacity_; }
  bool accept_is_start() const override { return accept_is_start_; }
  std::vector<std::string> Check(const Resources&, absl::string_view) const override { return {}; }
  absl::StatusOr<Workspace> Prepare(const AttemptName&) override { return Workspace(); }
  void Submit(Unit unit) override { platform_->Submit(std::move(unit)); }
  ProbeReport Probe() override {
    const bool bad = platform_->fate_->Happens(Fault::kRefuseForNow);
    return {{{"platform", !bad, bad ? "simulated" : "", ""}}};
  }
  void Cancel(absl::string_view key, CancelMode mode) override { platform_->Cancel(key, mode == CancelMode::kForced); }
  void Release(absl::string_view key) override { platform_->Release(key); }
  void Adopt(std::vector<KnownAttempt> attempts) override { platform_->Adopt(std::move(attempts)); }
  absl::Status RemoveLogs(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<LogReader>> OpenLog(const LogAddress&, LogStreamName) override {
    return absl::UnimplementedError("a simulated job writes no log");
  }

 private:
  Platform* const platform_;
  const bool accept_is_start_;
  Capacity capacity_;
};

Platform::Platform(Fate* fate, const Plan& plan, const std::vector<std::shared_ptr<const Graph>>* graphs)
    : fate_(fate),
      plan_(plan),
      graphs_(*graphs),
      instant_(std::all_of(plan.faults.begin(), plan.faults.end(), [](int rate) { return rate == 0; })),
      parallel_of_run_(graphs->size()) {
  for (const auto& graph : graphs_) {
    newest_.emplace_back(graph->step_count());
    current_.emplace_back(graph->step_count());
  }
}

std::unique_ptr<Backend> Platform::Connect(uint32_t life) {
  life_ = life;
  adopted_ = false;
  submitted_ = 0;
  return std::make_unique<PlatformBackend>(this, plan_.accept_is_start, plan_.cpu_millis);
}

void Platform::ReplaceGraph(uint32_t run, std::shared_ptr<const Graph> graph) {
  newest_[run].resize(graph->step_count());
  current_[run].resize(graph->step_count());
  graphs_[run] = std::move(graph);
}

const Platform::Job* Platform::Find(const std::string& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &jobs_[found->second];
}

uint32_t Platform::Know(absl::string_view key) {
  const auto found = by_key_.find(key);
  if (found != by_key_.end()) return found->second;
  const auto number = static_cast<uint32_t>(jobs_.size());
  jobs_.emplace_back().key = std::string(key);
  by_key_.emplace(jobs_.back().key, number);
  return number;
}

// A life begins with as many as a second has; what is late in the outbox only makes it fewer.
void Platform::CountSubmission() {
  if (submitted_++ == 0) since_mono_ = fate_->mono();
  if (plan_.rate_milli == 0) return;
  const int64_t most = std::max<int64_t>(plan_.rate_milli / 1000, 1) +
                       (fate_->mono() - since_mono_) * plan_.rate_milli / 1000 / kSecond + plan_.rate_milli / 1000 + 1;
  if (submitted_ > most) fate_->Break(submitted_, " submissions, the rate allows ", most);
}

void Platform::Submit(Unit unit) {
  CountSubmission();
  const AttemptName& name = unit.attempts.at(0).name;
  const uint32_t number = Know(unit.key);
  Job& job = jobs_[number];
  if (job.made) return SayAll(number);
  if (!absl::SimpleAtoi(name.run_id.substr(4), &job.run) || job.run >= graphs_.size()) {
    return fate_->Break("a submission of run ", name.run_id, ", which nobody made");
  }
  job.ix = name.step_index;
  job.attempt = name.attempt;
  if (fate_->Happens(Fault::kRefuseForNow)) return Say(number, Word::kRefusedForNow);
  if (fate_->Happens(Fault::kRefuseForGood)) return Say(number, Word::kRefusedForGood);
  const bool lost = fate_->Happens(Fault::kLostAnswer);
  if (!lost || fate_->dice.Percent(50)) Make(job, number);
  if (lost) {
    Say(number, Word::kUnknown);
  } else if (!plan_.accept_is_start) {
    Say(number, Word::kAccepted);
  }
}

void Platform::Make(Job& job, uint32_t number) {
  job.made = true;
  ++made_;
  uint32_t& newest = newest_[job.run][job.ix];
  if (job.attempt <= newest) {
    fate_->Break("attempt ", job.attempt, " of run ", job.run, " step ", job.ix, " is started twice");
  }
  if (newest > 0 && !jobs_[current_[job.run][job.ix]].ended) {
    fate_->Break("two attempts of run ", job.run, " step ", job.ix, " run at once");
  }
  newest = job.attempt;
  current_[job.run][job.ix] = number;
  Occupy(job, 1);
  Dice& dice = fate_->dice;
  if (instant_) {
    Start(job, number);
    return fate_->Later(dice.Delay(1000), What::kJobEnd, number);
  }
  job.ignores_stop = fate_->Happens(Fault::kIgnoresStop);
  job.says_no_start = fate_->Happens(Fault::kNoStart);
  if (fate_->Happens(Fault::kJobLost)) {
    job.outcome.reason = Reason::kLost;
  } else if (fate_->Happens(Fault::kJobFails)) {
    job.outcome.reason = dice.Percent(20) ? Reason::kEvicted : Reason::kExitCode;
    job.outcome.never_started = job.outcome.reason == Reason::kEvicted;
    job.outcome.exit_code = 1;
  } else {
    job.outcome.exit_code = 0;
  }
  const int64_t start = fate_->Happens(Fault::kEndsAtOnce) ? 1 : dice.Delay(2 * plan_.delay);
  const int64_t length = fate_->Happens(Fault::kLongJob) ? 300 * kSecond : dice.Delay(3 * plan_.delay);
  if (!job.outcome.never_started) fate_->Later(start, What::kJobStart, number);
  fate_->Later(start + length, What::kJobEnd, number);
  if (fate_->Has(Fault::kPublishEarly)) {
    const size_t outputs = graphs_[job.run]->SpecOf(job.ix).outputs.size();
    for (uint32_t o = 0; o < outputs; ++o) {
      if (fate_->Happens(Fault::kPublishEarly)) {
        fate_->Later(start + dice.Delay(length + plan_.delay), What::kJobPublish, number, o);
      }
    }
  }
}

void Platform::Start(Job& job, uint32_t number) {
  if (job.ended) return;
  job.started = true;
  job.started_wall = fate_->Now().wall;
  if (!job.says_no_start) Say(number, Word::kStarted);
}

void Platform::End(Job& job, uint32_t number, AttemptEnd end) {
  if (job.ended) return;
  job.ended = true;
  job.end = std::move(end);
  Occupy(job, -1);
  Say(number, Word::kEnded);
}

void Platform::Do(const Action& action) {
  if (action.what == What::kHealth) {
    if (listener_ != nullptr) listener_->HealthChanged(action.b != 0, "simulated");
    return;
  }
  Job& job = jobs_[action.a];
  switch (action.what) {
    case What::kJobStart:
      return Start(job, action.a);
    case What::kJobEnd:
      return End(job, action.a, job.outcome);
    case What::kJobStopped: {
      AttemptEnd end;
      end.reason = Reason::kSignaled;
      end.signal = 15;
      end.stopped = true;
      end.never_started = !job.started;
      return End(job, action.a, std::move(end));
    }
    case What::kReport:
      return Deliver(action.a, static_cast<Word>(action.b), action.life == life_);
    default:
      return;
  }
}

void Platform::Cancel(absl::string_view key, bool forced) {
  const uint32_t number = Know(key);
  Job& job = jobs_[number];
  job.told_to_stop = true;
  if (!job.made || job.ended || job.stopping || (job.ignores_stop && !forced)) return;
  job.stopping = true;
  fate_->Later(fate_->dice.Delay(2 * plan_.delay), What::kJobStopped, number);
}

void Platform::Release(absl::string_view key) {
  Job& job = jobs_[Know(key)];
  job.released = true;
  if (job.made && !job.ended)
    fate_->Break("an attempt is released while its job runs: run ", job.run, " step ", job.ix);
}

void Platform::Adopt(std::vector<KnownAttempt> attempts) {
  std::set<std::string> known;
  for (const KnownAttempt& attempt : attempts) {
    const uint32_t number = Know(attempt.name.key);
    Job& job = jobs_[number];
    known.insert(job.key);
    if (job.made && !job.ended && !adopted_ && fate_->Happens(Fault::kVanish)) {
      // With its processes; who never gave a handle for it cannot have forgotten it.
      job.forgotten = !attempt.handle.empty() && fate_->dice.Percent(50);
      AttemptEnd end;
      end.reason = Reason::kLost;
      End(job, number, std::move(end));
    }
    if (!job.made || job.forgotten) {
      Say(number, Word::kNotFound);
    } else {
      SayAll(number);
    }
  }
  if (std::exchange(adopted_, true)) return;
  for (uint32_t number = 0; number < jobs_.size(); ++number) {
    Job& job = jobs_[number];
    if (!job.made || !job.ended || job.released || known.count(job.key) > 0) continue;
    if (plan_.reports_strangers) {
      Say(number, Word::kEnded);
    } else {
      job.released = true;
    }
  }
}

// The jobs that have not ended never take more than there is, whatever the daemon believes.
void Platform::Occupy(const Job& job, int64_t sign) {
  const Graph& graph = *graphs_[job.run];
  for (const Demand& demand : graph.templates()[graph.TemplateOf(job.ix)].demands) {
    if (demand.pool == "cpu") cpu_ += sign * demand.amount;
    if (demand.pool == "pool/db") db_ += sign * demand.amount;
  }
  parallel_ += sign;
  int64_t& of_run = parallel_of_run_[job.run];
  of_run += sign;
  const auto over = [&](absl::string_view what, int64_t used, int64_t limit) {
    if (sign > 0 && limit > 0 && used > limit) fate_->Break(what, ": ", used, " in use, the limit is ", limit);
  };
  over("cpu", cpu_, plan_.cpu_millis);
  over("pool db", db_, 1);
  over("jobs of the orchestrator", parallel_, plan_.parallel);
  over("jobs of a run", of_run, plan_.runs[job.run].max_parallel);
}

void Platform::SayAll(uint32_t number) {
  const Job& job = jobs_[number];
  if (!plan_.accept_is_start) Say(number, Word::kAccepted);
  if (job.started && !job.says_no_start) Say(number, Word::kStarted);
  if (job.ended) Say(number, Word::kEnded);
}

void Platform::Say(uint32_t number, Word word) {
  if (instant_) return Deliver(number, word, true);
  int64_t delay = fate_->dice.Delay(plan_.delay);
  if (fate_->Happens(Fault::kLate)) delay += fate_->dice.Delay(3 * kSecond);
  fate_->Later(delay, What::kReport, number, static_cast<uint32_t>(word), life_);
  const bool progress = word == Word::kAccepted || word == Word::kStarted || word == Word::kEnded;
  if (progress && fate_->Happens(Fault::kRepeat)) {
    fate_->Later(delay + fate_->dice.Delay(5 * kSecond), What::kReport, number, static_cast<uint32_t>(word), life_);
  }
}

void Platform::Deliver(uint32_t number, Word word, bool of_this_life) {
  const Job& job = jobs_[number];
  if (listener_ == nullptr) return;
  const bool progress = word == Word::kAccepted || word == Word::kStarted || word == Word::kEnded;
  // An answer to a call dies with who called; news may reach the next one.
  if (!of_this_life && (!progress || fate_->dice.Percent(50))) return;
  switch (word) {
    case Word::kAccepted:
      if (job.forgotten) return;
      listener_->Accepted(job.key, "handle", "external", "");
      if (number % 3 == 0 && !job.started) listener_->Pending(job.key, Reason::kUnschedulable, "no room yet");
      return;
    case Word::kStarted:
      return listener_->Started(job.key, "external", "node", job.started_wall);
    case Word::kEnded:
      if (job.forgotten) return;
      if (job.end.reason == Reason::kLost) return listener_->Lost(job.key, "lost");
      return listener_->Ended(job.key, job.end);
    // A platform does not say that it has no such job, or refused it, after it was given one.
    case Word::kRefusedForNow:
      if (!job.made) listener_->Refused(job.key, true, Reason::kSubmitRefused, "busy");
      return;
    case Word::kRefusedForGood:
      if (!job.made) listener_->Refused(job.key, false, Reason::kSubmitRefused, "no");
      return;
    case Word::kUnknown:
      return listener_->Unknown(job.key, "no answer");
    case Word::kNotFound:
      if (!job.made || job.forgotten) listener_->NotFound(job.key);
      return;
  }
}

}  // namespace orch::sim
