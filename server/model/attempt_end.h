// How an attempt's command ended, as far as its platform says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "server/model/states.h"

namespace orch {

struct AttemptEnd {
  Reason reason = Reason::kNone;  // kNone: exit code 0
  std::string message;            // for people; empty if the reason says it all
  std::optional<int> exit_code;
  std::optional<int> signal;
  bool never_started = false;  // the command certainly never began
  bool stopped = false;        // a stop had been signalled before its main process ended
  int64_t started_wall = 0;    // microseconds UTC; 0: unknown, or reported before
  std::string external_id;     // the platform's own; empty: reported before
  int64_t ended_wall = 0;
  double cpu_seconds = 0;
  int64_t peak_memory = 0;  // bytes
  int64_t stdout_bytes = 0;
  int64_t stderr_bytes = 0;
  std::string output_dir;  // where this machine finds the outputs; empty: not here
  std::string scratch_dir;
};

}  // namespace orch
