// What an API server says of Jobs and pods, as far as it matters for an attempt: pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "server/model/states.h"

namespace orch::kubernetes {

struct ContainerView {
  enum class State { kNone, kWaiting, kRunning, kTerminated };
  State state = State::kNone;
  std::string name;
  std::string reason;   // of one that waits or has ended
  std::string message;  // in the node's own words
  int exit_code = 0;
  int64_t started_wall = 0;  // microseconds UTC; 0: never, or not told
  int64_t ended_wall = 0;

  bool ended() const { return state == State::kTerminated; }
};

struct PodView {
  std::string name, uid, key, node;
  std::string owner, made_for;  // the uid and the name of what it was made for
  std::string phase;            // `Pending`, …
  std::string reason, message;  // of the pod as a whole: `Evicted`
  int64_t created_wall = 0;
  bool deleting = false;
  int64_t grace_seconds = 0;                            // of the deletion
  std::string unscheduled_reason, unscheduled_message;  // by the scheduler; empty: it has a node, or is not looked at
  std::string disruption_reason, disruption_message;    // by whoever takes it away
  std::string main_image;
  ContainerView main;
  ContainerView init;        // the init container that has failed or waits; none if all is well with them
  bool init_is_own = false;  // that one is the step's own (of a `pod_template`), and does not bring the launcher

  bool failed() const { return phase == "Failed"; }
  bool succeeded() const { return phase == "Succeeded"; }
  bool began() const { return main.state == ContainerView::State::kRunning || main.started_wall > 0; }
  // Nothing more happens to the step's own container.
  bool over() const { return main.ended() || failed() || succeeded(); }
};

struct JobView {
  std::string name, uid, key;
  bool ours = false;  // its labels say so
  bool deleting = false;
  bool complete = false;
  bool failed = false;
  std::string reason, message;  // of a failure
  // Of one that has a say in what becomes of its pod: why there is none yet; how an end without the pod is to be taken.
  std::string waits_for;
  Reason verdict = Reason::kNone;
};

// How a pod's containers are called.
struct PodShape {
  std::string main = "main";
  // The container that brings the launcher, if it is none of the init containers: `main` runs nothing before its end.
  std::string bring;
  // The init container that brings it. All others are the step's own; empty: none is.
  std::string init = "orch-launch";
};

// What is no such object gives one without a name.
PodView ReadPod(const nlohmann::json& pod, const PodShape& shape = {});
// `instance` and `orchestrator`: as the label selector has them.
JobView ReadJob(const nlohmann::json& job, const std::string& selector);

// Microseconds UTC of `2026-01-02T03:04:05Z`; 0 if it is none.
int64_t WallOf(const std::string& text);

}  // namespace orch::kubernetes
