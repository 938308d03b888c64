// A run as a platform gets it that takes whole runs: a task for each step, and what has to end before it.
//
// In each task runs nothing but a launcher (`LAUNCHER run`, with the outline's environment and the task's own), which
// asks the daemon for its step's attempt and waits until there is one. So what is ready, cached, skipped, paused or
// tried again is decided where it is for every other flavor, and the platform shows the run as one of its own. A task
// ends with 0 when nothing is left to do, also where its step was skipped; with the step's exit code when an attempt
// failed: started again it asks for the next one; with another code once its step has failed for good. Tasks behind one
// that failed are started all the same, unless the outline says that the run stops at a failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/model/resources.h"

namespace orch {

struct RunTask {
  uint32_t step_index = 0;
  std::string step;           // `train[2]`
  std::vector<size_t> after;  // places in RunOutline::tasks, without repeats
  int starts = 1;             // how often it may have to be started
  Resources resources;
  std::string image;
  std::string settings_json;  // the step's settings for this flavor; empty: none
  std::string token;          // the value of ORCH_TASK; a secret, for this task alone
};

struct RunOutline {
  // Deterministic, [a-z2-7]{20}: of the run and its generation. A platform that has lost the first is given a second by
  // a name of the backend's own making.
  std::string key;
  std::string project;
  std::string run_id;
  std::string run_name;
  std::string pipeline;
  int generation = 1;
  bool stops_at_failure = false;
  std::vector<std::pair<std::string, std::string>> env;  // of every task: ORCH_ENDPOINT and the like; no secret
  std::vector<RunTask> tasks;                            // of the steps that have not succeeded
};

}  // namespace orch
