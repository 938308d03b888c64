// What is taken away for good. A run vanishes in one commit; what it leaves behind is removed in slices afterwards, so
// that no commit is as long as a run is large, and a record of it stays until nothing is left.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/model/rows.h"

namespace orch {

// A run that was deleted and is not cleaned up yet.
struct DeletedRunRow {
  RunKey key = 0;
  std::string id;
  std::string name;
  std::string pipeline;       // its name
  int64_t last_sequence = 0;  // of the newest event of the run itself
  int64_t deleted = 0;
};

// Part of a batch; done in the order of the fields.
struct Removals {
  // Vanish with their header, labels and name; a record takes their place. Watchers that are behind `last_sequence`
  // have to list again.
  std::vector<DeletedRunRow> runs;
  struct Steps {
    RunKey run = 0;
    StepIx first = 0;
    StepIx end = 0;
  };
  std::vector<Steps> steps;  // with their attempts
  struct Events {
    RunKey run = 0;
    int64_t up_to = 0;  // sequence
    int limit = 0;
  };
  std::vector<Events> events;
  // Each unless something pins it: a cache entry, or a name of its own (`as`). Their blobs are put on the list of those
  // to be removed.
  std::vector<ArtifactId> artifacts;
  struct CacheEntry {
    std::string project;
    std::string key;
    int64_t created = 0;  // one that was made anew meanwhile stays
  };
  std::vector<CacheEntry> cache_entries;
  // Of runs that are still there: each unless its run is live, or a cache entry needs it.
  std::vector<ArtifactId> pruned_artifacts;
  // The oldest events, of all runs; watchers that are behind `up_to` have to list again.
  struct Compacted {
    int64_t up_to = 0;  // sequence; 0: none
    int limit = 0;
  };
  Compacted compacted;
  // Blobs on the list: those that an artifact has leave it.
  std::vector<std::string> checked_blobs;
  // Blobs on the list whose bytes are gone: they leave it, and the row goes too unless an artifact has it again.
  std::vector<std::string> removed_blobs;
  // Answers to requests, the oldest first.
  struct Requests {
    int64_t before = 0;  // made earlier than this; 0: none
    int limit = 0;
  };
  Requests requests;
  // Nothing is left of these runs.
  std::vector<RunKey> cleaned_runs;

  bool empty() const {
    return runs.empty() && steps.empty() && events.empty() && artifacts.empty() && cache_entries.empty() &&
           pruned_artifacts.empty() && compacted.up_to == 0 && checked_blobs.empty() && removed_blobs.empty() &&
           requests.before == 0 && cleaned_runs.empty();
  }
};

}  // namespace orch
