// How an attempt ended, from what the engine says of its container and what is known here: pure.
#pragma once

#include <cstdint>
#include <string>

#include "backends/docker/inspected.h"
#include "server/model/attempt_end.h"

namespace orch::docker {

// What is known here of a container that has ended.
struct ContainerFate {
  std::string program;  // the first word of its command; empty: not known
  bool stop_sent = false;
  bool broken_off = false;  // the engine went away while it ran
  bool over_limit = false;  // of its log
  std::string log_fault;    // why its log is not whole; empty: it is
  std::string log_head;     // the first bytes of its stderr
  std::string log_tail;     // and the last
  int64_t stdout_bytes = 0;
  int64_t stderr_bytes = 0;
};

struct ContainerEnd {
  bool lost = false;  // `end.message` says why; it may be tried again
  AttemptEnd end;
};

// `state`: of a container that runs no more, or never could.
ContainerEnd EndOf(const ContainerState& state, const ContainerFate& fate);

// So many bytes of stderr tell whether the engine's init, or our own program, could not execute the command; and so
// many whether that saw it end for want of memory.
inline constexpr int64_t kLogHead = 400;
inline constexpr int64_t kLogTail = 200;

}  // namespace orch::docker
