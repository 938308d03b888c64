// What the core keeps in memory of a run that has not ended: 16 bytes a step, and more only for steps on their way.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/core/messages.h"
#include "server/core/ready_queue.h"
#include "server/core/rules.h"
#include "server/model/graph.h"
#include "server/model/rows.h"

namespace orch {

// One step. `state` is changed by Dispatcher::SetStep alone.
struct StepCell {
  StepState state = StepState::kWaiting;
  Reason reason = Reason::kNone;
  uint8_t seen = 0;        // outcomes of upstreams, kSeen…
  bool dirty : 1 = false;  // its row goes into the next batch
  bool told : 1 = false;   // its end has reached its dependants
  uint32_t open = 0;       // upstream edges still open
  uint32_t attempt = 0;    // the newest
  uint32_t published = 0;  // early publications of its newest attempt, for dependants that skip if it fails
};
static_assert(sizeof(StepCell) == 16);

// A step between WAITING and its end.
struct StepDetail {
  StepRow row;
  ReadyQueue::Entry entry;
  bool queued = false;     // in the ready queue
  bool resolving = false;  // a ResolveStep is under way
  bool resolved = false;
  bool logged = false;  // READY is on record
  std::string cache_key;
  std::vector<ArtifactId> external;  // as AttemptRow.external
  bool landed_meanwhile = false;     // one of its artifacts, while a ResolveStep was under way
  RetryBudget budget;
};

// The attempt a step is at, from its grant to its end.
struct LiveAttempt {
  AttemptRow row;
  bool dirty = false;
  bool holds_slots = true;
  bool waits_to_resubmit = false;
  bool storing = false;  // a StoreOutputs is under way; after a restart only once its end has been reported again
  int refusals = 0;
  int64_t stop_forced_mono = 0;
  int64_t heard_mono = 0;        // when its step last gave a sign of life
  std::set<uint32_t> published;  // outputs
};

// What has come to the instances of a fan-out made at run time before they are there.
struct Unexpanded {
  uint32_t closed = 0;  // edges
  uint8_t seen = 0;     // outcomes
};

struct RunInMemory {
  RunHeader header;
  RunRow row;
  std::shared_ptr<const Graph> graph;
  std::vector<StepCell> cells;
  std::vector<ArtifactId> artifacts;     // by Graph::OutputSlot; 0: not landed
  std::vector<uint32_t> open_instances;  // by template
  std::vector<uint8_t> seen;             // by template: outcomes of its instances
  std::vector<uint32_t> lines;           // by template
  std::vector<uint32_t> orchestrators;   // by template
  std::unordered_map<StepIx, StepDetail> details;
  std::unordered_map<StepIx, LiveAttempt> live;
  std::set<std::pair<StepIx, uint32_t>> early_closed;   // (producer, output) whose early edges are closed
  FoundHits found;                                      // what came with the submission and has not been taken
  std::vector<uint32_t> found_taken;                    // by template: instances that took one
  std::unordered_map<uint32_t, Unexpanded> unexpanded;  // by template
  int64_t open_steps = 0;
  bool any_failed = false;
  bool dirty = false;
  PoolId parallel_pool = 0;
  bool has_parallel_pool = false;
};

}  // namespace orch
