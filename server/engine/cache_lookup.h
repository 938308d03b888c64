// Looks steps up in the cache: entries in the database, their bytes in the store.
//
// Any thread; may block.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/messages.h"
#include "server/engine/blob_store.h"
#include "server/engine/run_context.h"
#include "server/engine/sources.h"
#include "server/store/queries.h"

namespace orch {

class CacheLookup {
 public:
  // What a step would take from the cache, or why it cannot.
  struct Answer {
    bool hit = false;
    CacheVerdict verdict = CacheVerdict::kNoEntry;
    RunKey run = 0;  // of the entry, if there is one
    std::string run_name;
    std::vector<StoredOutput> outputs;  // of a hit, one for each output
  };

  CacheLookup(store::Queries* queries, BlobStore* blobs) : queries_(queries), blobs_(blobs) {}

  // What is durable now; taken before the look, for the core to judge it by.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // From the loop's thread, after a commit.
  void SetVersion(uint64_t version) { version_.store(version, std::memory_order_release); }

  // Looks the key of a step up.
  using Look = absl::FunctionRef<Answer(const StepSpec& step, const std::string& key)>;
  // Calls `work` with a function that looks into one state of the database; it must be over within seconds.
  absl::Status Read(const std::string& project, int64_t now_wall, absl::FunctionRef<absl::Status(Look)> work);

 private:
  Answer Judge(const StepSpec& step, store::Queries::CacheHit hit, int64_t now_wall);

  store::Queries* const queries_;
  BlobStore* const blobs_;
  std::atomic<uint64_t> version_{0};
};

// Walks the run's graph from its roots along steps whose inputs are all hits, and returns the hits. It ends early when
// there is too little to find or `micros` are over: what is left is looked up when it is ready.
FoundHits FindHits(const RunContext& run, CacheLookup* cache, const Sources* sources, int64_t micros);

// What a look at one step saw, for a plan.
struct StepLook {
  enum class What : uint8_t {
    kNotCached,  // the cache has nothing to do with it
    kHit,
    kMiss,
    kDepends,  // on what is computed or decided before it
  };
  What what = What::kNotCached;
  CacheVerdict verdict = CacheVerdict::kNoEntry;
  std::string run_name;    // of the entry, if there is one
  std::string parts_json;  // of a miss
};
// By step. Errors are the database's.
absl::StatusOr<std::vector<StepLook>> LookAtAll(const RunContext& run, CacheLookup* cache, const Sources* sources);

}  // namespace orch
