// Where the container of an attempt is, and what is done next, from what its engine answers: pure. Whatever is lost,
// late, stale or asked for by somebody else, a container is asked to start once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "backends/docker/inspected.h"

namespace orch::docker {

enum class Phase {
  kAdopted,  // on record; where it is has to be seen
  kWaiting,  // for an engine that cannot be reached
  kImage,    // its image is looked for, or pulled
  kCreating,
  kStarting,
  kRunning,  // or over, and its log is not read to its end yet
  kEnded,
};

// Which engine has been asked to start it, by this life of the daemon or an earlier one. An engine that is killed may
// have begun and not have written that down: to its successor the container is as it was made.
enum class Asked { kNone, kThis, kEarlier };

struct Move {
  enum class Do {
    kNothing,
    kLookForImage,
    kCreate,
    kInspect,
    kLater,  // IsDue, in a while: its name is taken by one that goes away, a start may be under way, or the engine may
             // have more to say of its end
    kStart,
    kFollow,        // it runs; its log is followed, and a cancelled one is stopped
    kReadLog,       // it has ended: the rest of its log is read, then `state` is told
    kTell,          // it could not be started, as `state` says
    kEndUnstarted,  // it was cancelled in time
    kStop,
    kKill,          // nobody can know whether it runs; IsDue, in a while
    kRefuse,        // nothing was made, or nothing of ours
    kLost,          // `message`
    kNotFound,      // nothing is there that was on record
    kUnknown,       // nobody knows whether it was made
    kDisconnected,  // the answer was none: all is looked up when the engine is back
  };
  Do what = Do::kNothing;
  bool accepted = false;  // it has an id now, which is to be told first
  bool started = false;   // so is that it runs, or did
  bool transient = false;
  std::string message;  // empty: the engine's own words
};

// What became of a call that should make a container.
struct CreateAnswer {
  int status = 0;        // of HTTP; 0: none came
  bool refused = false;  // of none: the engine has certainly not heard of it
  std::string id;        // empty: it said none
};

class ContainerLife {
 public:
  // `name`: the container's. `adopted`: of an attempt that is on record, perhaps being stopped (`cancelled`).
  ContainerLife(std::string name, bool adopted, bool cancelled)
      : name_(std::move(name)), phase_(adopted ? Phase::kAdopted : Phase::kWaiting), cancelled_(cancelled) {}

  Phase phase() const { return phase_; }
  const std::string& id() const { return id_; }  // the container's, or its name; empty: there is none
  bool ours() const { return ours_; }            // seen to be
  bool began() const { return began_; }
  bool cancelled() const { return cancelled_; }
  bool broken_off() const { return broken_off_; }
  bool image_gone() const { return image_gone_; }  // it was there, and was removed before the container could be made
  int64_t started_wall() const { return started_wall_; }
  // Once it has ended.
  const std::optional<ContainerState>& state() const { return state_; }

  // The engine can be asked.
  Move Ready();
  Move ImageIsThere();
  Move EngineIsAway();  // it was asked for the image
  Move Created(const CreateAnswer& answer, bool may_pull);
  // A while after kLater.
  Move IsDue();
  // Instead of kStart: the engine has not been asked.
  Move StartPutOff();
  // `status` of HTTP, 0: none came. `now`: microseconds UTC.
  Move StartAnswered(int status, int64_t now);
  // Before an inspect is asked for; false: one is under way, and another follows it.
  bool BeginInspect();
  // `status` of HTTP, 0: none came. `container`: nothing if the answer was none.
  Move InspectAnswered(int status, const std::optional<Inspected>& container, Asked asked);
  // Something happened while it was looked up: it is to be looked up again.
  bool LookAgain();
  // The engine has listed all that is ours; `id` of this one, empty: it is not there. `followed`: its log is being
  // read.
  Move Listed(const std::string& id, bool followed, Asked asked);
  // The engine says so by itself.
  Move Happened(const ContainerEvent& event);
  Move Cancel();
  void BrokeOff();  // the engine may be gone, and have ended it
  // Its end has been told.
  void Over() { phase_ = Phase::kEnded; }

 private:
  Move Start();
  Move Runs(int64_t started_wall);
  Move HasEnded(ContainerState state);
  Move NotThere(Asked asked);
  Move Lost(std::string message);
  Move Gone() { return Lost("its container " + name_ + " was removed by somebody else"); }
  Move EndUnstarted();

  const std::string name_;
  Phase phase_;
  std::string id_;
  bool ours_ = false;
  bool cancelled_;
  bool starting_ = false;  // the answer to that is to come
  bool happened_ = false;  // something, while that was to come
  bool looked_ = false;    // or about to, a while after the last start that may be under way without us
  bool began_ = false;
  bool broken_off_ = false;  // the engine went away while it ran, and it has not been seen to run since
  bool image_gone_ = false;
  bool doubted_ = false;   // its end by SIGKILL, which may have been for want of memory
  bool look_due_ = false;  // once IsDue
  bool inspecting_ = false;
  bool look_is_stale_ = false;  // the engine went away meanwhile
  bool look_again_ = false;
  int64_t started_wall_ = 0;
  std::optional<ContainerState> died_;  // the same, if it ended well
  std::optional<ContainerState> state_;
};

}  // namespace orch::docker
