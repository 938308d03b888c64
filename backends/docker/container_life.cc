#include "backends/docker/container_life.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orch::docker {
namespace {

using Do = Move::Do;

constexpr int kKilled = 128 + 9;

Move To(Do what) {
  Move move;
  move.what = what;
  return move;
}

// An engine hears of the kernel's reason and of the end by different ways, and may be asked between the two.
bool MayLackMemory(const ContainerState& state) {
  return state.exit_code == kKilled && state.memory > 0 && !state.out_of_memory;
}

}  // namespace

Move ContainerLife::EndUnstarted() {
  phase_ = Phase::kEnded;
  return To(Do::kEndUnstarted);
}

Move ContainerLife::Lost(std::string message) {
  phase_ = Phase::kEnded;
  Move move = To(Do::kLost);
  move.message = std::move(message);
  return move;
}

Move ContainerLife::Ready() {
  phase_ = Phase::kImage;
  return To(Do::kLookForImage);
}

Move ContainerLife::EngineIsAway() {
  phase_ = Phase::kWaiting;
  return To(Do::kDisconnected);
}

Move ContainerLife::ImageIsThere() {
  if (cancelled_) return EndUnstarted();
  phase_ = Phase::kCreating;
  return To(Do::kCreate);
}

Move ContainerLife::IsDue() {
  if (phase_ == Phase::kCreating && id_.empty()) return ImageIsThere();
  if (std::exchange(look_due_, false) && phase_ == Phase::kRunning && !state_.has_value()) return To(Do::kInspect);
  if (phase_ == Phase::kEnded || id_.empty() || starting_ || began_) return {};
  if (inspecting_) return To(Do::kLater);  // that look is too old
  looked_ = true;
  return To(Do::kInspect);
}

Move ContainerLife::Created(const CreateAnswer& answer, bool may_pull) {
  if (phase_ != Phase::kCreating) return answer.status == 0 ? To(Do::kDisconnected) : Move();  // it was found in a list
  if (answer.status == 201 && !answer.id.empty()) {
    id_ = answer.id;
    ours_ = true;
    Move move = cancelled_ ? EndUnstarted() : Start();
    move.accepted = true;
    return move;
  }
  if (answer.status == 0 && answer.refused) return EngineIsAway();
  if (answer.status == 0) return To(Do::kUnknown);
  // There is one of that name, or will be: ours, unless somebody else took it.
  if (answer.status == 409 || answer.status == 201) {
    id_ = name_;
    return To(Do::kInspect);
  }
  if (answer.status == 404 && may_pull && !std::exchange(image_gone_, true)) return Ready();
  Move move = To(Do::kRefuse);
  move.transient = answer.status >= 500;
  return move;
}

Move ContainerLife::Start() {
  if (starting_ || began_) return {};
  phase_ = Phase::kStarting;
  starting_ = true;
  happened_ = broken_off_ = false;
  return To(Do::kStart);
}

Move ContainerLife::StartPutOff() {
  starting_ = false;
  return To(Do::kLater);
}

Move ContainerLife::StartAnswered(int status, int64_t now) {
  starting_ = false;
  const bool good = status >= 200 && status < 400;
  if (!good) looked_ = false;
  if (status == 0) return To(Do::kDisconnected);
  if (phase_ != Phase::kStarting) return {};
  if (!good) return To(Do::kInspect);  // which says why
  if (died_.has_value()) {
    ContainerState state = *died_;
    state.started_wall = std::min(now, state.ended_wall);
    return HasEnded(std::move(state));
  }
  Move move = Runs(now);
  if (happened_) move.what = Do::kInspect;
  return move;
}

Move ContainerLife::Runs(int64_t started_wall) {
  phase_ = Phase::kRunning;
  Move move = To(Do::kFollow);
  move.started = !std::exchange(began_, true);
  if (move.started) started_wall_ = started_wall;
  return move;
}

Move ContainerLife::HasEnded(ContainerState state) {
  phase_ = Phase::kRunning;
  const int64_t started = state.started_wall;
  state_ = std::move(state);
  if (started == 0) return To(Do::kTell);  // it could not be started
  Move move = To(Do::kReadLog);
  move.started = !std::exchange(began_, true);
  if (move.started) started_wall_ = started;
  return move;
}

bool ContainerLife::BeginInspect() {
  if (inspecting_) return !(look_again_ = true);
  look_again_ = false;
  return inspecting_ = true;
}

bool ContainerLife::LookAgain() {
  return std::exchange(look_again_, false) && phase_ == Phase::kRunning && !state_.has_value();
}

Move ContainerLife::InspectAnswered(int status, const std::optional<Inspected>& container, Asked asked) {
  inspecting_ = false;
  const bool stale = std::exchange(look_is_stale_, false);
  if (phase_ == Phase::kEnded || state_.has_value()) return {};
  if (status == 404) return NotThere(asked);
  if (status < 200 || status >= 400 || !container.has_value()) return To(Do::kDisconnected);
  if (!container->ours) {
    Move move = To(Do::kRefuse);
    move.message = absl::StrCat("somebody else's container is called ", name_, "; it is left alone");
    return move;
  }
  // Of an earlier life of the daemon, or found by its name.
  const bool news = !std::exchange(ours_, true) || id_ != container->id;
  id_ = container->id;
  Move move;
  if (container->alive && container->state.started_wall == 0 && !starting_ && !began_) {
    // What an engine makes of one that its predecessor had made ready to run as that was killed: it runs, since never,
    // and if it was not begun it waits for ever.
    phase_ = Phase::kRunning;
    broken_off_ = look_due_ = true;
    move = To(Do::kKill);
  } else if (!container->alive && !container->fresh && !doubted_ && !cancelled_ && MayLackMemory(container->state)) {
    phase_ = Phase::kRunning;
    doubted_ = look_due_ = true;
    move = To(Do::kLater);
  } else if (container->alive) {
    if (!stale) broken_off_ = false;  // it has outlived that
    move = Runs(container->state.started_wall);
  } else if (!container->fresh) {
    // Another engine was asked to start it, maybe by an earlier life of the daemon, and is gone. What has been seen to
    // run since then is not its any more.
    broken_off_ = broken_off_ || (asked == Asked::kEarlier && !began_);
    move = HasEnded(container->state);
  } else if (starting_) {  // its answer says how it went
  } else if (asked == Asked::kEarlier) {
    move = Lost("the Docker engine went away as it was asked to start it; it may have begun");
  } else if (began_) {  // it was looked up before it started
    move = To(Do::kInspect);
  } else if (cancelled_) {
    move = EndUnstarted();
  } else if (asked == Asked::kThis && !looked_) {
    move = To(Do::kLater);  // of an answer that was lost, or an earlier life of the daemon: the engine may be about to
  } else {
    move = Start();
  }
  move.accepted = news;
  return move;
}

// An engine lists a container and gives its name to nobody else while it makes it, for an earlier life of the daemon
// perhaps, and takes both back if whoever asked is gone. One that was never asked to start is made again.
Move ContainerLife::NotThere(Asked asked) {
  if (asked != Asked::kNone) return Gone();
  id_.clear();
  switch (phase_) {
    case Phase::kAdopted:
      return To(Do::kNotFound);
    case Phase::kWaiting:
      return Ready();
    case Phase::kCreating:
      return To(Do::kLater);
    default:
      return Gone();
  }
}

Move ContainerLife::Listed(const std::string& id, bool followed, Asked asked) {
  if (phase_ == Phase::kEnded) return {};
  if (!id.empty()) {
    if (phase_ == Phase::kAdopted || id_.empty()) id_ = id;
    return followed && !broken_off_ && phase_ == Phase::kRunning ? Move() : To(Do::kInspect);
  }
  switch (phase_) {
    case Phase::kAdopted:
      return NotThere(asked);
    case Phase::kWaiting:
      return Ready();
    case Phase::kCreating:
      return id_.empty() ? Move() : NotThere(asked);
    case Phase::kStarting:
      return Gone();
    case Phase::kRunning:
      return state_.has_value() ? Move() : Gone();
    default:
      return {};
  }
}

Move ContainerLife::Happened(const ContainerEvent& event) {
  // Of an end with 0 a look would say no more, and an engine that cleans up lets nobody look for a while. Any other may
  // have been for want of memory, or with the engine's own end.
  const bool well = event.exit_code == 0 && !id_.empty() && event.id == id_ && !state_.has_value();
  happened_ = happened_ || starting_;
  if (well && starting_) {
    died_.emplace();
    died_->exit_code = 0;
    died_->ended_wall = event.wall;
  }
  if (phase_ != Phase::kRunning) return {};
  if (!well) return To(Do::kInspect);
  ContainerState state;
  state.exit_code = 0;
  state.started_wall = started_wall_;
  state.ended_wall = event.wall;
  return HasEnded(std::move(state));
}

Move ContainerLife::Cancel() {
  cancelled_ = true;
  switch (phase_) {
    case Phase::kWaiting:
    case Phase::kImage:
      return EndUnstarted();
    case Phase::kRunning:
      return To(Do::kStop);
    default:
      return {};  // once it is known where it is
  }
}

void ContainerLife::BrokeOff() {
  look_is_stale_ = inspecting_;
  if (phase_ == Phase::kRunning || phase_ == Phase::kStarting) broken_off_ = true;
}

}  // namespace orch::docker
