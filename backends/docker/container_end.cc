#include "backends/docker/container_end.h"

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace orch::docker {
namespace {

// What the engine's init says if it could not execute the command: its exit code alone could be the command's.
constexpr absl::string_view kInitFailed = "[FATAL tini (";
// And what `orch-launch enter` says.
constexpr absl::string_view kEnterFailed = "orch-launch: cannot execute ";
// And if the kernel has ended a process of the command's, which engines miss now and then.
constexpr absl::string_view kOutOfMemory = "orch-launch: out of memory: ";
static_assert(kInitFailed.size() <= kLogHead && kEnterFailed.size() <= kLogHead);

constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kBySignal = 128;  // and above: an init passes its command's signal on like this
constexpr int kSignals = 64;
constexpr int kUnknown = 255;  // what an engine says of one that ended while nobody looked

bool SaysOutOfMemory(absl::string_view tail) {
  if (!absl::ConsumeSuffix(&tail, "\n")) return false;
  const size_t line = tail.rfind('\n');
  return absl::StartsWith(line == absl::string_view::npos ? tail : tail.substr(line + 1), kOutOfMemory);
}

AttemptEnd Unstarted(AttemptEnd end, int code, const std::string& fault) {
  end.never_started = true;
  const bool command = code == kNotExecutable || code == kNotFound || absl::StrContains(fault, "exec: \"");
  end.reason = command ? Reason::kCommandNotFound : Reason::kUnschedulable;
  end.message = absl::StrCat("the engine could not start it: ", fault);
  return end;
}

}  // namespace

ContainerEnd EndOf(const ContainerState& state, const ContainerFate& fate) {
  const int code = state.exit_code;
  ContainerEnd out;
  AttemptEnd& end = out.end;
  end.started_wall = state.started_wall;
  end.ended_wall = state.ended_wall;
  end.stopped = fate.stop_sent;
  end.stdout_bytes = fate.stdout_bytes;
  end.stderr_bytes = fate.stderr_bytes;
  if (end.started_wall == 0 && fate.broken_off && state.error.empty()) {  // of one that it refused it would say why
    out.lost = true;
    end.message = "the Docker engine went away as it was asked to start it; it may have begun";
    return out;
  }
  if (end.started_wall == 0) {
    end = Unstarted(std::move(end), code, state.error);
    return out;
  }
  if ((code == kNotExecutable || code == kNotFound) &&
      (absl::StartsWith(fate.log_head, kInitFailed) || absl::StartsWith(fate.log_head, kEnterFailed))) {
    end.never_started = true;
    end.reason = Reason::kCommandNotFound;
    const std::string program = fate.program.empty() ? "" : absl::StrCat("`", fate.program, "` ");
    const std::string words = fate.log_head.substr(0, fate.log_head.find('\n'));  // `…: Exec format error`
    end.message = absl::StrCat("the program ", program, "cannot be executed: it is not in the image, or no program (",
                               words, ")");
  } else if (fate.over_limit) {
    end.reason = Reason::kLogLimit;
    end.message = absl::StrCat("it wrote ", end.stdout_bytes + end.stderr_bytes, " bytes of log (limit log_bytes)");
  } else if (code == 0) {
    end.exit_code = 0;  // also if the kernel ended one of its children for want of memory: that was its own business
  } else if (state.out_of_memory || SaysOutOfMemory(fate.log_tail)) {
    end.reason = Reason::kOutOfMemory;
    end.signal = 9;
    end.message = state.memory > 0 ? absl::StrCat("out of memory: it may use ", state.memory, " bytes")
                                   : "out of memory: it has no limit of its own, and its machine had no more";
  } else if (fate.broken_off && !end.stopped && (code == kBySignal + 9 || code == kBySignal + 15)) {
    out.lost = true;
    end.message = "the Docker engine was stopped while it ran, and ended it";
  } else if (fate.broken_off && code == kUnknown) {
    out.lost = true;
    end.message = "the Docker engine was killed while it ran, and does not know how it ended";
  } else if (code > kBySignal && code <= kBySignal + kSignals) {
    end.signal = code - kBySignal;
    end.reason = Reason::kSignaled;
    end.message = absl::StrCat("ended by signal ", *end.signal, " (", strsignal(*end.signal), ")");
  } else {
    end.exit_code = code;
    end.reason = Reason::kExitCode;
    end.message = absl::StrCat("exit code ", code);
  }
  if (!fate.log_fault.empty()) {
    absl::StrAppend(&end.message, end.message.empty() ? "" : "; ", "its log is not whole: ", fate.log_fault);
  }
  return out;
}

}  // namespace orch::docker
