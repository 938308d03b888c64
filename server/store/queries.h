// Reads for the API and the effects, on read-only connections. Any thread: each call borrows a connection of its own.
//
// Every call fails with UNAVAILABLE (DATABASE_BUSY) if no connection comes free in time, with DEADLINE_EXCEEDED if it
// runs longer than `query_deadline`, with NOT_FOUND and the thing's own word where it says so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/batch.h"
#include "server/model/rows.h"
#include "server/store/store.h"

namespace orch::store {

struct RunRecord {
  RunHeader header;
  RunRow row;
};

struct RunFilter {
  std::string project = "default";
  std::vector<RunState> states;  // any of; empty: all
  std::string pipeline;
  std::string orchestrator;
  std::string name_contains;
  std::vector<std::pair<std::string, std::string>> labels;
};

struct StepFilter {
  std::vector<StepState> states;  // any of; WAITING needs rows of steps without a row, which the caller supplies
  std::string name_prefix;
};

struct ArtifactFilter {
  std::string project = "default";
  RunKey run = 0;
  std::optional<StepIx> ix;
  std::string name;
};

// An artifact with the names of what made it.
struct ArtifactRecord {
  ArtifactRow row;
  std::string run_name;
  std::string run_id;
  std::string step_name;
  bool directory = false;
};

class Queries {
 public:
  struct Options {
    std::string data_dir;
    int connections = 4;
    int64_t query_deadline_micros = 5'000'000;
  };
  // After Writer::Open.
  static absl::StatusOr<std::unique_ptr<Queries>> Open(const Options& options);
  virtual ~Queries() = default;

  // By name or id. NOT_FOUND (RUN_NOT_FOUND) with near names in the message.
  virtual absl::StatusOr<RunRecord> FindRun(absl::string_view project, absl::string_view name_or_id) = 0;
  virtual absl::StatusOr<RunRecord> GetRun(RunKey key) = 0;
  // Those before the present one, oldest first.
  virtual absl::StatusOr<std::vector<GenerationRow>> ListGenerations(RunKey run) = 0;
  // Everything that a retry of a run that has ended needs; without attempts.
  virtual absl::StatusOr<LiveRun> LoadEndedRun(RunKey key) = 0;
  // Newest first, keys below `before` (0: from the newest), at most `limit`.
  virtual absl::StatusOr<std::vector<RunRecord>> ListRuns(const RunFilter& filter, RunKey before, int limit) = 0;

  // Rows in the order of ix from `from`, at most `limit`. Steps still WAITING have no row.
  virtual absl::StatusOr<std::vector<StepRow>> ListSteps(RunKey run, const StepFilter& filter, StepIx from,
                                                         int limit) = 0;
  virtual absl::StatusOr<std::optional<StepRow>> GetStep(RunKey run, StepIx ix) = 0;
  virtual absl::StatusOr<std::vector<AttemptRow>> ListAttempts(RunKey run, StepIx ix) = 0;
  // What became of its fan-outs made at run time, in the order of `first`, without the first `skip`.
  virtual absl::StatusOr<std::vector<FanoutRow>> ListFanouts(RunKey run, int skip) = 0;

  // Oldest first, sequences above `after`, of one run or of all (0).
  virtual absl::StatusOr<std::vector<EventRow>> ListEvents(RunKey run, int64_t after, int limit) = 0;
  virtual absl::StatusOr<int64_t> CompactedSequence() = 0;

  // `art-N`, `name@version`, or `name`. NOT_FOUND (ARTIFACT_NOT_FOUND).
  virtual absl::StatusOr<ArtifactRecord> FindArtifact(absl::string_view project, absl::string_view name) = 0;
  // For an `artifact:` input: version 0 is the newest. What an attempt published early counts once it has succeeded.
  struct LandedArtifact {
    ArtifactId id = 0;     // 0: it is not there
    bool deleted = false;  // it was there once
  };
  virtual absl::StatusOr<LandedArtifact> FindLandedArtifact(absl::string_view project, absl::string_view name,
                                                            int64_t version) = 0;
  virtual absl::StatusOr<std::vector<ArtifactRecord>> ListArtifacts(const ArtifactFilter& filter, ArtifactId before,
                                                                    int limit) = 0;
  // In the order of `ids`; NOT_FOUND names the first that is missing. With values.
  virtual absl::StatusOr<std::vector<ArtifactRow>> GetArtifacts(const std::vector<ArtifactId>& ids) = 0;
  // nullopt if there is no such blob.
  virtual absl::StatusOr<std::optional<BlobRow>> GetBlob(absl::string_view digest) = 0;

  // nullopt: a miss. The artifacts come with it, in the order of the outputs.
  struct CacheHit {
    CacheEntryRow entry;
    std::string run_name;
    std::vector<ArtifactRow> artifacts;
  };
  virtual absl::StatusOr<std::optional<CacheHit>> FindCacheEntry(absl::string_view project, absl::string_view key) = 0;

  // The pipeline's row; version 0: the newest. NOT_FOUND (PIPELINE_NOT_FOUND).
  virtual absl::StatusOr<PipelineRow> FindPipeline(absl::string_view project, absl::string_view name,
                                                   int64_t version) = 0;
  virtual absl::StatusOr<std::optional<PipelineRow>> FindPipelineByDigest(absl::string_view project,
                                                                          absl::string_view name,
                                                                          absl::string_view digest) = 0;
  virtual absl::StatusOr<PipelineRow> GetPipeline(int64_t id) = 0;
  // The serialized spec.
  virtual absl::StatusOr<std::string> ReadSpec(absl::string_view digest) = 0;
  // Newest version of each name, by name, names above `after`.
  virtual absl::StatusOr<std::vector<PipelineRow>> ListPipelines(absl::string_view project, absl::string_view after,
                                                                 int limit) = 0;
  // Newest first, versions below `before` (0: from the newest).
  virtual absl::StatusOr<std::vector<PipelineRow>> ListPipelineVersions(absl::string_view project,
                                                                        absl::string_view name, int64_t before,
                                                                        int limit) = 0;

  // What is left to be cleaned up after deletions. The oldest deleted run; nullopt: none.
  virtual absl::StatusOr<std::optional<DeletedRunRow>> NextDeletedRun() = 0;
  // Artifacts of a deleted run that nothing pins, ids above `after`, oldest first.
  virtual absl::StatusOr<std::vector<ArtifactId>> ListLooseArtifacts(RunKey run, ArtifactId after, int limit) = 0;
  struct RunRemains {
    std::optional<StepIx> last_step;
    bool events = false;  // up to its last sequence
  };
  virtual absl::StatusOr<RunRemains> FindRemains(const DeletedRunRow& run) = 0;
  // Digests of blobs that lost an artifact and may have to go, those above `after`, in order.
  virtual absl::StatusOr<std::vector<std::string>> ListBlobRemovals(absl::string_view after, int limit) = 0;
  // The subset of `digests` that is still on that list.
  virtual absl::StatusOr<std::vector<std::string>> FindBlobRemovals(const std::vector<std::string>& digests) = 0;

  virtual absl::StatusOr<std::vector<OrchestratorRow>> ListOrchestrators(absl::string_view project) = 0;
  virtual absl::StatusOr<std::vector<PoolRow>> ListPools() = 0;
  virtual absl::StatusOr<std::vector<StackRow>> ListStacks() = 0;

  // The stored answer to a request, if there is one.
  virtual absl::StatusOr<std::optional<RequestRow>> FindRequest(absl::string_view method, absl::string_view project,
                                                                absl::string_view request_id) = 0;
};

}  // namespace orch::store
