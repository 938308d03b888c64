#include "server/core/hooks.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"

namespace orch {
namespace {

constexpr uint32_t kMaxTries = 3;  // of a hook whose supervisor was lost
constexpr int64_t kStopAgainMicros = 30'000'000;
constexpr int64_t kSlackMicros = 5'000'000;

std::string Word(const std::string& instance, const std::string& what) {
  return Base32(Sha256Of(absl::StrCat(instance, "/hook/", what))).substr(0, 20);
}

std::string Describe(const AttemptEnd& end) {
  if (!end.message.empty()) return end.message;
  if (end.exit_code) return absl::StrCat("exit code ", *end.exit_code);
  return std::string(Name(end.reason));
}

}  // namespace

void HookQueue::Touch(Hook& hook) {
  if (std::exchange(hook.dirty, true)) return;
  dirty_.push_back(hook.row.id);
}

void HookQueue::Want(Intent::Kind kind, const Hook& hook, bool forced) {
  Intent& intent = intents_.emplace_back();
  intent.kind = kind;
  intent.ref = {hook.row.run, static_cast<StepIx>(std::max<int64_t>(hook.row.ix, 0)), 0};
  intent.key = hook.row.key;
  intent.orchestrator = kHookOrchestrator;
  intent.forced = forced;
  if (kind == Intent::Kind::kRunHook) intent.hook = std::make_shared<const HookRow>(hook.row);
}

void HookQueue::StartTimer(const Hook& hook, int64_t due, bool forced) {
  timers_.push({due, hook.row.id, hook.row.tries, forced});
}

void HookQueue::Restore(HookRow row, Now now) {
  const std::string id = row.id;
  Hook& hook = hooks_[id];
  hook.row = std::move(row);
  if (hook.row.state == HookState::kPending) {
    waiting_.push_back(id);
    return;
  }
  by_key_[hook.row.key] = id;
  ++running_;
  // The time goes on. It is known by the wall clock, which may have been set: never more than the whole again.
  const int64_t since = hook.row.started != 0 ? std::max<int64_t>(0, now.wall - hook.row.started) : 0;
  StartTimer(hook, now.mono + std::max<int64_t>(0, policy_.limit_micros - since), false);
}

std::vector<HookRow> HookQueue::Running() const {
  std::vector<HookRow> out;
  for (const auto& [id, hook] : hooks_) {
    if (hook.row.state == HookState::kRunning) out.push_back(hook.row);
  }
  return out;
}

void HookQueue::Add(HookRow row, const std::string& run_id, Now now) {
  row.id = Word(instance_, absl::StrCat(run_id, "/", row.ix, "/", row.generation, "/", row.on_failure ? 1 : 0));
  row.state = HookState::kPending;
  row.created = now.wall;
  const std::string id = row.id;
  if (hooks_.count(id) > 0) return;
  Hook& hook = hooks_[id];
  hook.row = std::move(row);
  waiting_.push_back(id);
  Touch(hook);
}

void HookQueue::Begin(Hook& hook, Now now) {
  ++hook.row.tries;
  hook.row.key = Word(instance_, absl::StrCat(hook.row.id, "/", hook.row.tries));
  hook.row.state = HookState::kRunning;
  hook.row.started = now.wall;
  hook.stopping = false;
  by_key_[hook.row.key] = hook.row.id;
  ++running_;
  Touch(hook);
  Want(Intent::Kind::kRunHook, hook);
  StartTimer(hook, now.mono + policy_.limit_micros, false);
}

void HookQueue::End(Hook& hook, HookState state, std::string result, Now now) {
  HookRow& row = hook.row;
  Want(Intent::Kind::kReleaseAttempt, hook);
  by_key_.erase(row.key);
  --running_;
  row.state = state;
  row.result = std::move(result);
  if (state == HookState::kPending) {
    waiting_.push_back(row.id);
    Touch(hook);
    return;
  }
  row.ended = std::max(now.wall, row.started);
  if (!hook.dirty) dirty_.push_back(row.id);
  ended_.push_back(std::move(row));
  hooks_.erase(ended_.back().id);
}

void HookQueue::On(HookReported& event, Now now) {
  const auto found = by_key_.find(event.key);
  if (found == by_key_.end()) return;
  Hook& hook = hooks_.at(found->second);
  const AttemptEnd& end = event.end;
  switch (event.what) {
    case HookReported::What::kStarted:
      if (event.wall != 0 && hook.row.started != event.wall) {
        hook.row.started = event.wall;
        Touch(hook);
      }
      return;
    case HookReported::What::kNotFound:  // the word of it was lost with a daemon
      if (hook.stopping) return End(hook, HookState::kTimedOut, "its time was over before it began", now);
      return Want(Intent::Kind::kRunHook, hook);
    case HookReported::What::kRefused:
      return End(hook, HookState::kFailed, Describe(end), now);
    case HookReported::What::kEnded:
      break;
  }
  hook.row.exit_code = end.exit_code;
  hook.row.signal = end.signal;
  if (end.started_wall != 0) hook.row.started = end.started_wall;
  if (end.reason == Reason::kLost) {
    if (hook.row.tries < kMaxTries && !hook.stopping) return End(hook, HookState::kPending, Describe(end), now);
    return End(hook, HookState::kFailed, Describe(end), now);
  }
  if (end.reason == Reason::kNone) return End(hook, HookState::kSucceeded, "", now);
  if (end.stopped && hook.stopping) {
    return End(hook, HookState::kTimedOut,
               absl::StrCat("it was stopped after ", policy_.limit_micros / 1'000'000, " s (limit hook_seconds)"), now);
  }
  End(hook, HookState::kFailed, Describe(end), now);
}

void HookQueue::Tick(Now now) {
  while (!timers_.empty() && timers_.top().due <= now.mono) {
    const Timer timer = timers_.top();
    timers_.pop();
    const auto found = hooks_.find(timer.id);
    if (found == hooks_.end() || found->second.row.tries != timer.tries ||
        found->second.row.state != HookState::kRunning) {
      continue;
    }
    found->second.stopping = true;
    Want(Intent::Kind::kCancelAttempt, found->second, timer.forced);
    StartTimer(found->second, now.mono + (timer.forced ? kStopAgainMicros : policy_.grace_micros + kSlackMicros), true);
  }
  while (!waiting_.empty() && running_ < policy_.at_once) {
    const auto found = hooks_.find(waiting_.front());
    waiting_.pop_front();
    if (found != hooks_.end()) Begin(found->second, now);
  }
}

int64_t HookQueue::NextDeadline() const {
  if (!waiting_.empty() && running_ < policy_.at_once) return 0;
  return timers_.empty() ? INT64_MAX : timers_.top().due;
}

void HookQueue::Take(Batch* batch, std::vector<Intent>* intents) {
  for (const std::string& id : std::exchange(dirty_, {})) {
    const auto found = hooks_.find(id);
    if (found == hooks_.end()) continue;
    found->second.dirty = false;
    batch->hooks.push_back(found->second.row);
  }
  for (HookRow& row : std::exchange(ended_, {})) batch->hooks.push_back(std::move(row));
  for (Intent& intent : std::exchange(intents_, {})) intents->push_back(std::move(intent));
}

bool HookQueue::Has(RunKey run) const {
  return std::any_of(hooks_.begin(), hooks_.end(), [&](const auto& entry) { return entry.second.row.run == run; });
}

}  // namespace orch
