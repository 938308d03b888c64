// One transaction: everything that becomes durable together. The loop fills it from the core's decisions.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "server/model/removals.h"
#include "server/model/rows.h"

namespace orch {

// A piece of a pipeline's serialized spec; the PipelineRow comes with or after the last piece.
struct SpecSlice {
  std::string digest;  // 32 raw bytes
  int index = 0;
  std::string bytes;  // at most 256 KiB
};

// For at least so long a repeat is known as one.
inline constexpr int64_t kRequestKeptMicros = int64_t{7} * 24 * 3600 * 1'000'000;

// The answer to a request with a request_id, so that a repeat gets the same.
struct RequestRow {
  std::string method;  // `SubmitRun`
  std::string project;
  std::string request_id;
  std::string fingerprint;  // SHA-256 of the request; another one under the same id is refused
  std::string answer;       // what the method needs to answer again: a run id, a name
  int64_t created = 0;
};

struct Batch {
  std::vector<SpecSlice> spec_slices;
  std::vector<PipelineRow> pipelines;                                      // inserts
  std::vector<RunHeader> new_runs;                                         // inserts, each with a RunRow below
  std::vector<RunHeader> retried_runs;                                     // updates: what a retry may change
  std::vector<RunRow> runs;                                                // insert or update
  std::vector<StepRow> steps;                                              // upsert
  std::vector<NumberingRow> numberings;                                    // insert; before its fan-outs
  std::vector<FanoutRow> fanouts;                                          // insert; the store numbers them
  std::vector<AttemptRow> attempts;                                        // upsert
  std::vector<BlobRow> blobs;                                              // insert or ignore
  std::vector<ArtifactRow> artifacts;                                      // insert; the store numbers the versions
  std::vector<CacheEntryRow> cache_entries;                                // insert or replace
  std::vector<CacheMissRow> cache_misses;                                  // insert or replace
  std::vector<std::pair<std::string, std::string>> removed_cache_entries;  // project, key
  std::vector<HookRow> hooks;                                              // upsert
  std::vector<EventRow> events;                                            // insert; sequences are dense
  std::vector<RequestRow> requests;                                        // insert
  std::vector<OrchestratorRow> orchestrators;                              // upsert by (project, name)
  std::vector<std::pair<std::string, std::string>> deleted_orchestrators;  // project, name
  std::vector<FlavorRow> flavors;                                          // upsert by name
  std::vector<std::string> deleted_flavors;                                // names
  std::vector<PoolRow> pools;                                              // upsert by name
  std::vector<std::string> deleted_pools;
  std::vector<SecretRow> secrets;                                    // upsert by (project, name)
  std::vector<std::pair<std::string, std::string>> deleted_secrets;  // project, name
  std::vector<ApiTokenRow> api_tokens;                               // upsert by name
  std::vector<TokenUse> token_uses;                                  // update; after the tokens
  std::vector<StackRow> stacks;                                      // upsert by name; a new default replaces the old
  std::vector<std::string> deleted_stacks;
  std::vector<ArtifactStoreRow> artifact_stores;  // upsert by name
  std::vector<std::string> deleted_artifact_stores;
  Removals removals;  // after everything above

  bool empty() const {
    return spec_slices.empty() && pipelines.empty() && new_runs.empty() && retried_runs.empty() && runs.empty() &&
           steps.empty() && numberings.empty() && fanouts.empty() && attempts.empty() && blobs.empty() &&
           artifacts.empty() && cache_entries.empty() && cache_misses.empty() && removed_cache_entries.empty() &&
           hooks.empty() && events.empty() && requests.empty() && orchestrators.empty() &&
           deleted_orchestrators.empty() && flavors.empty() && deleted_flavors.empty() && pools.empty() &&
           deleted_pools.empty() && secrets.empty() && deleted_secrets.empty() && api_tokens.empty() &&
           token_uses.empty() && stacks.empty() && deleted_stacks.empty() && artifact_stores.empty() &&
           deleted_artifact_stores.empty() && removals.empty();
  }
};

}  // namespace orch
