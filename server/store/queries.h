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
  std::string name;         // the whole name
  std::string name_prefix;  // its beginning
  std::string name_contains;
  std::vector<std::pair<std::string, std::string>> labels;
};

// Runs are numbered in the order in which they were accepted.
enum class RunOrder { kNewestFirst, kOldestFirst, kByName, kByNameDescending };

// Where a page of runs ended: behind this run.
struct RunPlace {
  RunKey key = 0;    // in the orders of time; 0: at the beginning
  std::string name;  // in the orders of names; empty: at the beginning
};

struct RunPage {
  std::vector<RunRecord> runs;
  // Set: go on here. A page may have fewer runs than asked for, even none, and still be followed by more: only so many
  // rows of an index are looked at for one page.
  std::optional<RunPlace> next;
};

struct StepFilter {
  std::vector<StepState> states;  // any of; WAITING needs rows of steps without a row, which the caller supplies
  std::string name_prefix;
};

// The state of a step that has a row.
struct StepMark {
  StepIx ix = 0;
  StepState state = StepState::kWaiting;
};

// What lineage asks of an attempt.
struct AttemptMark {
  StepIx ix = 0;
  uint32_t number = 0;
  AttemptState state = AttemptState::kNone;
  ArtifactId inputs_upto = 0;  // 0: not on record
  int64_t created = 0;
  std::vector<ArtifactId> external;  // as AttemptRow.external
};

// An attempt that read an artifact from outside its run.
struct ExternalReader {
  RunKey run = 0;
  StepIx ix = 0;
  uint32_t number = 0;
  std::vector<ArtifactId> external;  // as AttemptRow.external
};

// An artifact that a step's output landed as.
struct StepOutput {
  StepIx ix = 0;
  std::string output;
  ArtifactId artifact = 0;
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

// What retention asks of an ended run, a cache entry, an artifact and the log of events.
struct EndedRun {
  RunKey key = 0;
  std::string id;
  std::string name;
  int64_t ended = 0;
};
struct CacheEntryMark {
  int64_t number = 0;  // of its row
  std::string project;
  std::string key;
  std::string name;  // run and step that made it
  int64_t bytes = 0;
  int64_t created = 0;
  RunKey run = 0;  // the attempt that made it
  StepIx ix = 0;
  uint32_t attempt = 0;
};
struct ArtifactMark {
  ArtifactId id = 0;
  std::string name;  // with its version
  int64_t size = 0;
  int64_t created = 0;
  int64_t newer = 0;      // versions of the name
  std::string needed_by;  // empty: nothing but maybe the cache needs it
  bool cached = false;    // a cache entry needs it
  RunKey run = 0;         // the attempt that made it
  StepIx ix = 0;
  uint32_t attempt = 0;
};
struct EventMarks {
  int64_t first = 0;        // the oldest; behind the last if there is none
  int64_t before_time = 0;  // the last before the time that was asked for
  int64_t bytes_each = 0;   // about
};

class Queries {
 public:
  struct Options {
    std::string data_dir;
    int connections = 4;
    int64_t query_deadline_micros = 5'000'000;
    int page_rows = 1'000;  // of an index, looked at for one page
  };
  // After Writer::Open.
  static absl::StatusOr<std::unique_ptr<Queries>> Open(const Options& options);
  virtual ~Queries() = default;

  // By name or id. NOT_FOUND (RUN_NOT_FOUND) with near names in the message.
  virtual absl::StatusOr<RunRecord> FindRun(absl::string_view project, absl::string_view name_or_id) = 0;
  // Would FindRun find one?
  virtual absl::StatusOr<bool> HasRun(absl::string_view project, absl::string_view name_or_id) = 0;
  virtual absl::StatusOr<RunRecord> GetRun(RunKey key) = 0;
  // Those before the present one, oldest first.
  virtual absl::StatusOr<std::vector<GenerationRow>> ListGenerations(RunKey run) = 0;
  // Everything that a retry of a run that has ended needs; without attempts.
  virtual absl::StatusOr<LiveRun> LoadEndedRun(RunKey key) = 0;
  // At most `limit` runs behind `after`.
  virtual absl::StatusOr<RunPage> PageOfRuns(const RunFilter& filter, RunOrder order, const RunPlace& after,
                                             int limit) = 0;
  // Newest first, keys below `before` (0: from the newest), `limit` of them or all: however many pages that takes.
  absl::StatusOr<std::vector<RunRecord>> ListRuns(const RunFilter& filter, RunKey before, int limit);

  // Rows in the order of ix from `from`, at most `limit`. Steps still WAITING have no row.
  virtual absl::StatusOr<std::vector<StepRow>> ListSteps(RunKey run, const StepFilter& filter, StepIx from,
                                                         int limit) = 0;
  virtual absl::StatusOr<std::optional<StepRow>> GetStep(RunKey run, StepIx ix) = 0;
  // From `from` on upwards, or downwards, at most `limit`.
  virtual absl::StatusOr<std::vector<StepMark>> ScanSteps(RunKey run, StepIx from, bool descending, int limit) = 0;
  // In the order of `ixs`; those without a row are left out.
  virtual absl::StatusOr<std::vector<StepRow>> GetSteps(RunKey run, const std::vector<StepIx>& ixs) = 0;
  // What landed of these steps, by step and in the order of landing.
  virtual absl::StatusOr<std::vector<StepOutput>> ListOutputs(RunKey run, const std::vector<StepIx>& ixs) = 0;
  virtual absl::StatusOr<std::vector<AttemptRow>> ListAttempts(RunKey run, StepIx ix) = 0;
  // What became of its fan-outs made at run time since its steps have their numbers from this generation on (0: from
  // its pipeline), and until they got others; in order, behind number `after`.
  virtual absl::StatusOr<std::vector<FanoutRow>> ListFanouts(RunKey run, int numbering, int64_t after) = 0;
  // EncodeNumbering. NOT_FOUND (RUN_NOT_FOUND).
  virtual absl::StatusOr<std::string> GetNumbering(RunKey run, int generation) = 0;

  // Of a step, or of the run (ix -1), oldest generation first.
  virtual absl::StatusOr<std::vector<HookRow>> ListHooks(RunKey run, int64_t ix) = 0;
  // NOT_FOUND (HOOK_NOT_FOUND).
  virtual absl::StatusOr<HookRow> FindHook(RunKey run, absl::string_view id) = 0;

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
  // Of the steps `first` to `last` what landed up to the artifact `upto`, by step and then oldest first, without
  // values; `output` empty: all of them.
  virtual absl::StatusOr<std::vector<ArtifactRow>> ListOutputVersions(RunKey run, StepIx first, StepIx last,
                                                                      absl::string_view output, ArtifactId upto,
                                                                      int64_t limit) = 0;
  // By step and number.
  virtual absl::StatusOr<std::vector<AttemptMark>> ListAttemptMarks(RunKey run, StepIx first, StepIx last,
                                                                    int limit) = 0;
  // Of other runs, oldest run first.
  virtual absl::StatusOr<std::vector<ExternalReader>> ListExternalReaders(ArtifactId artifact, int limit) = 0;
  // nullopt if there is no such blob.
  virtual absl::StatusOr<std::optional<BlobRow>> GetBlob(absl::string_view digest) = 0;

  // An entry (without its parts) with its artifacts, in the order of the outputs.
  struct CacheHit {
    CacheEntryRow entry;
    std::vector<ArtifactRow> artifacts;
  };
  // nullopt: a miss.
  using CacheFinder = std::function<std::optional<CacheHit>(absl::string_view key)>;
  // Calls `read` with a function that looks keys of `project` up in one state of the database. `read` must not keep it,
  // and answers within the query's deadline.
  virtual absl::Status ReadCache(absl::string_view project,
                                 const std::function<absl::Status(const CacheFinder&)>& read) = 0;
  // The newest entry (with its parts) of the step of that name that is older than `before` and not of `run`.
  virtual absl::StatusOr<std::optional<CacheEntryRow>> NewestCacheEntry(absl::string_view project,
                                                                        absl::string_view pipeline,
                                                                        absl::string_view step, int64_t before,
                                                                        RunKey not_of) = 0;
  // The step's newest look into the cache that found nothing.
  virtual absl::StatusOr<std::optional<CacheMissRow>> GetCacheMiss(RunKey run, StepIx ix) = 0;
  // Keys of the entries of a pipeline that are not newer than `until`: of one step (`train`: all its instances;
  // `train[2]`: one) or of all (empty).
  virtual absl::StatusOr<std::vector<std::string>> ListCacheKeys(absl::string_view project, absl::string_view pipeline,
                                                                 absl::string_view step, int64_t until) = 0;

  // How long the steps that succeeded in a run took, by name, in microseconds.
  virtual absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> ListStepDurations(RunKey run) = 0;

  // Newest first, keys below `before` (0: from the newest).
  virtual absl::StatusOr<std::vector<EndedRun>> ListEndedRuns(RunKey before, int limit) = 0;
  // Bytes of its artifacts and of what its attempts wrote.
  virtual absl::StatusOr<int64_t> SizeOfRun(RunKey run) = 0;
  // By the number of the row, above `after`.
  virtual absl::StatusOr<std::vector<CacheEntryMark>> ListCacheMarks(int64_t after, int limit) = 0;
  // Newest first, ids below `before` (0: from the newest).
  virtual absl::StatusOr<std::vector<ArtifactMark>> ListArtifactMarks(ArtifactId before, int limit) = 0;
  // `last`: the newest sequence; `time` 0: none is asked for.
  virtual absl::StatusOr<EventMarks> MarkEvents(int64_t last, int64_t time) = 0;
  virtual absl::StatusOr<int64_t> CountEvents(int64_t up_to) = 0;

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
  // What an attempt read of artifacts from outside its run that are gone by now: digests.
  virtual absl::StatusOr<std::vector<std::string>> ListGoneReads(RunKey run, StepIx ix, uint32_t attempt) = 0;
  // The subset of `digests` that is still on that list.
  virtual absl::StatusOr<std::vector<std::string>> FindBlobRemovals(const std::vector<std::string>& digests) = 0;

  virtual absl::StatusOr<std::vector<OrchestratorRow>> ListOrchestrators(absl::string_view project) = 0;
  virtual absl::StatusOr<std::vector<FlavorRow>> ListFlavors() = 0;  // of plug-ins, by name
  virtual absl::StatusOr<std::vector<PoolRow>> ListPools() = 0;
  virtual absl::StatusOr<std::vector<StackRow>> ListStacks() = 0;
  // All but `default`, by name.
  virtual absl::StatusOr<std::vector<ArtifactStoreRow>> ListArtifactStores() = 0;
  // The stores that have a copy of these bytes.
  virtual absl::StatusOr<std::vector<std::string>> ListBlobCopies(absl::string_view digest) = 0;
  virtual absl::StatusOr<int64_t> CountBlobCopies(absl::string_view store) = 0;
  virtual absl::StatusOr<std::vector<ApiTokenRow>> ListApiTokens() = 0;
  // By name, without what is sealed.
  virtual absl::StatusOr<std::vector<SecretRow>> ListSecrets(absl::string_view project) = 0;
  // NOT_FOUND (SECRET_NOT_FOUND).
  virtual absl::StatusOr<SecretRow> GetSecret(absl::string_view project, absl::string_view name) = 0;

  // The stored answer to a request, if there is one.
  virtual absl::StatusOr<std::optional<RequestRow>> FindRequest(absl::string_view method, absl::string_view project,
                                                                absl::string_view request_id) = 0;
  // Whether one of them was stored earlier than that.
  virtual absl::StatusOr<bool> HasRequestBefore(int64_t wall) = 0;
};

}  // namespace orch::store
