// Why a step or a run is where it is, as plain facts. Nothing here changes anything; Dispatcher::Explain says what only
// the dispatcher knows of a run that has not ended, ExplainEnded what the tables say of one that has.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

// Who holds slots of a pool.
struct SlotHolder {
  std::string run;
  std::string step;
  uint32_t attempt = 0;
  int64_t slots = 0;
};

// One thing that keeps a step or run waiting, or that ended it.
struct Cause {
  Reason reason = Reason::kNone;
  std::string text;  // for people
  std::string run;   // the step it is about
  std::string step;
  StepState step_state = StepState::kWaiting;
  std::string input;
  std::string pool;  // the full one, as users know it
  int64_t wanted = 0;
  int64_t used = 0;
  int64_t capacity = 0;
  std::vector<SlotHolder> holders;
  int64_t more = 0;   // holders, or steps like `step`, that are not listed
  int64_t until = 0;  // wall; when it goes on or is ended by itself
};

struct BriefStep {
  StepIx ix = 0;
  StepState state = StepState::kWaiting;
  Reason reason = Reason::kNone;
  std::string text;
};

struct Explained {
  RunState run_state = RunState::kPending;
  StepState state = StepState::kWaiting;
  Reason reason = Reason::kNone;
  uint32_t attempt = 0;
  bool asked = false;  // the cache has been asked for the attempt it is at
  std::string summary;
  std::vector<Cause> causes;
  std::vector<BriefStep> steps;  // of a run
};

inline constexpr size_t kMostCauses = 20;
inline constexpr size_t kMostHolders = 10;

// Steps of one run by state, however they are kept. `states`: a bit for each StepState. Returns at most `limit` of
// those in [first, first + count), and how many there are in all.
struct StepsFound {
  std::vector<BriefStep> steps;  // without text
  int64_t total = 0;
};
using StepFinder = std::function<StepsFound(StepIx first, uint32_t count, uint32_t states, size_t limit)>;

constexpr uint32_t Bit(StepState state) { return 1u << static_cast<unsigned>(state); }
inline constexpr uint32_t kBadStates = Bit(StepState::kFailed) | Bit(StepState::kCancelled) | Bit(StepState::kSkipped);
inline constexpr uint32_t kOpenStates = Bit(StepState::kWaiting) | Bit(StepState::kReady) |
                                        Bit(StepState::kSubmitting) | Bit(StepState::kQueued) |
                                        Bit(StepState::kRunning) | Bit(StepState::kBackoff) | Bit(StepState::kStopping);

// The upstreams of a step that are in one of `states`: one cause for each input and each `after` that has some.
std::vector<Cause> ExplainUpstreams(const Graph& graph, const std::string& run, StepIx ix, uint32_t states,
                                    const StepFinder& find);

// Of a step that has ended, by its row; `find` is asked about its upstreams.
Explained ExplainEnded(const Graph& graph, const std::string& run, const RunRow& run_row, const StepRow& row,
                       const StepFinder& find);
// Of a run that has ended.
Explained ExplainEnded(const Graph& graph, const std::string& run, const RunRow& run_row, const StepFinder& find);

// `exit code 3`, `signal 9`, `out of memory at 512 MiB`, …: how an attempt ended, in a few words.
std::string EndInWords(Reason reason, const std::optional<int>& exit_code, const std::optional<int>& signal,
                       int64_t peak_memory, const std::string& message);
// A time in UTC, `14:03:22`.
std::string ClockWords(int64_t wall_micros);

}  // namespace orch
