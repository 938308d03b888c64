// What is different for attempts of whole runs (whole_runs.h): their launchers come for them, and their word counts.
#include <string>
#include <utility>

#include "server/base/clock.h"
#include "server/engine/outbox.h"

namespace orch {

void Outbox::AdoptWhole(const std::string& orchestrator, Backend* backend, const Workspace& workspace,
                        KnownAttempt* known) {
  const auto attempt = FindAttempt(known->name.key);
  const auto run = attempt.has_value() ? FindRun(attempt->ref.run) : nullptr;
  if (run == nullptr || !backend->takes_runs()) return;
  known->outline = workshop_->WholeRunOf(run, FlavorOf(orchestrator), backend, workspace);
  if (!known->outline) return;
  SetWhole(known->name.key);
  known->place = workshop_->BegunAt(known->name.key);
}

void Outbox::SetWhole(const std::string& key) {
  MutexLock lock(&mutex_);
  const auto found = attempts_.find(key);
  if (found != attempts_.end()) found->second.whole = true;
}

void Outbox::LauncherBegan(absl::string_view key, absl::string_view place) {
  const auto attempt = FindAttempt(key);
  if (!attempt.has_value() || !attempt->whole) return;
  const auto backend = FindBackend(attempt->orchestrator);
  std::string called = backend == nullptr ? std::string(place) : backend->Began(key, place);
  Post post;
  post.lane = attempt->ref.run;
  post.event = AttemptStarted{attempt->ref, std::move(called), "", Clock::Real().Now().wall};
  mailbox_->Put(std::move(post));
}

void Outbox::LauncherEnded(absl::string_view key) {
  const auto attempt = FindAttempt(key);
  if (!attempt.has_value() || !attempt->whole) return;
  std::string k(key);
  if (attempt->stop != StopAsked::kNo || workshop_->EndedWell(k)) return TakeWord(k);
  executor_->Slowly(place_patience_, [this, k = std::move(k)] { TakeWord(k); });
}

// Whatever its platform says after that is a repetition, as this is if that has said it already.
void Outbox::TakeWord(const std::string& key) {
  const auto attempt = FindAttempt(key);
  if (!attempt.has_value()) return;
  executor_->Aside(attempt->ref.run, [this, k = key, ref = attempt->ref] {
    AttemptEnd end;
    if (workshop_->Judge(k, /*last=*/true, &end) != Workshop::Judged::kTold) return;
    SetOutputDir(k, end.output_dir);
    Post post;
    post.lane = ref.run;
    post.event = AttemptEnded{ref, std::move(end)};
    mailbox_->Put(std::move(post));
  });
}

// Its launcher is told when it next says that it is alive; by force also its platform.
void Outbox::StopWhole(const Intent& intent) {
  if (workshop_->Withdraw(intent.key)) {
    AttemptEnd end;
    end.stopped = true;
    end.never_started = true;
    Post post;
    post.lane = intent.ref.run;
    post.event = AttemptEnded{intent.ref, std::move(end)};
    mailbox_->Put(std::move(post));
    return;
  }
  {
    MutexLock lock(&mutex_);
    const auto found = attempts_.find(intent.key);
    if (found == attempts_.end()) return;
    found->second.stop = intent.forced ? StopAsked::kForced : StopAsked::kGraceful;
  }
  if (workshop_->HasEnd(intent.key)) TakeWord(intent.key);  // nobody wants to know more
  if (!intent.forced) return;
  if (const auto backend = FindBackend(intent.orchestrator)) backend->Cancel(intent.key, CancelMode::kForced);
}

}  // namespace orch
