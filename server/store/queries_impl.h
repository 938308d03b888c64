// The one implementation of Queries; its functions are spread over queries*.cc by what they read.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/store/connection_pool.h"
#include "server/store/queries.h"

namespace orch::store {

class QueriesImpl : public Queries {
 public:
  QueriesImpl(std::unique_ptr<ConnectionPool> pool, int page_rows) : pool_(std::move(pool)), page_rows_(page_rows) {}

  absl::StatusOr<RunRecord> FindRun(absl::string_view project, absl::string_view name_or_id) override;
  absl::StatusOr<bool> HasRun(absl::string_view project, absl::string_view name_or_id) override;
  absl::StatusOr<RunRecord> GetRun(RunKey key) override;
  absl::StatusOr<std::vector<GenerationRow>> ListGenerations(RunKey run) override;
  absl::StatusOr<LiveRun> LoadEndedRun(RunKey key) override;
  absl::StatusOr<RunPage> PageOfRuns(const RunFilter& filter, RunOrder order, const RunPlace& after,
                                     int limit) override;
  absl::StatusOr<std::vector<StepRow>> ListSteps(RunKey run, const StepFilter& filter, StepIx from, int limit) override;
  absl::StatusOr<std::optional<StepRow>> GetStep(RunKey run, StepIx ix) override;
  absl::StatusOr<std::vector<StepMark>> ScanSteps(RunKey run, StepIx from, bool descending, int limit) override;
  absl::StatusOr<std::vector<StepRow>> GetSteps(RunKey run, const std::vector<StepIx>& ixs) override;
  absl::StatusOr<std::vector<StepOutput>> ListOutputs(RunKey run, const std::vector<StepIx>& ixs) override;
  absl::StatusOr<std::vector<AttemptRow>> ListAttempts(RunKey run, StepIx ix) override;
  absl::StatusOr<std::vector<FanoutRow>> ListFanouts(RunKey run, int numbering, int64_t after) override;
  absl::StatusOr<std::string> GetNumbering(RunKey run, int generation) override;
  absl::StatusOr<std::vector<HookRow>> ListHooks(RunKey run, int64_t ix) override;
  absl::StatusOr<HookRow> FindHook(RunKey run, absl::string_view id) override;
  absl::StatusOr<std::vector<EventRow>> ListEvents(RunKey run, int64_t after, int limit) override;
  absl::StatusOr<int64_t> CompactedSequence() override;

  absl::StatusOr<ArtifactRecord> FindArtifact(absl::string_view project, absl::string_view name) override;
  absl::StatusOr<LandedArtifact> FindLandedArtifact(absl::string_view project, absl::string_view name,
                                                    int64_t version) override;
  absl::StatusOr<std::vector<ArtifactRecord>> ListArtifacts(const ArtifactFilter& filter, ArtifactId before,
                                                            int limit) override;
  absl::StatusOr<std::vector<ArtifactRow>> GetArtifacts(const std::vector<ArtifactId>& ids) override;
  absl::StatusOr<std::vector<ArtifactRow>> ListOutputVersions(RunKey run, StepIx first, StepIx last,
                                                              absl::string_view output, ArtifactId upto,
                                                              int64_t limit) override;
  absl::StatusOr<std::vector<AttemptMark>> ListAttemptMarks(RunKey run, StepIx first, StepIx last, int limit) override;
  absl::StatusOr<std::vector<ExternalReader>> ListExternalReaders(ArtifactId artifact, int limit) override;
  absl::StatusOr<std::optional<BlobRow>> GetBlob(absl::string_view digest) override;

  absl::Status ReadCache(absl::string_view project,
                         const std::function<absl::Status(const CacheFinder&)>& read) override;
  absl::StatusOr<std::optional<CacheEntryRow>> NewestCacheEntry(absl::string_view project, absl::string_view pipeline,
                                                                absl::string_view step, int64_t before,
                                                                RunKey not_of) override;
  absl::StatusOr<std::optional<CacheMissRow>> GetCacheMiss(RunKey run, StepIx ix) override;
  absl::StatusOr<std::vector<std::string>> ListCacheKeys(absl::string_view project, absl::string_view pipeline,
                                                         absl::string_view step, int64_t until) override;

  absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> ListStepDurations(RunKey run) override;

  absl::StatusOr<std::vector<EndedRun>> ListEndedRuns(RunKey before, int limit) override;
  absl::StatusOr<int64_t> SizeOfRun(RunKey run) override;
  absl::StatusOr<std::vector<CacheEntryMark>> ListCacheMarks(int64_t after, int limit) override;
  absl::StatusOr<std::vector<ArtifactMark>> ListArtifactMarks(ArtifactId before, int limit) override;
  absl::StatusOr<EventMarks> MarkEvents(int64_t last, int64_t time) override;
  absl::StatusOr<int64_t> CountEvents(int64_t up_to) override;
  absl::StatusOr<PipelineRow> FindPipeline(absl::string_view project, absl::string_view name, int64_t version) override;
  absl::StatusOr<std::optional<PipelineRow>> FindPipelineByDigest(absl::string_view project, absl::string_view name,
                                                                  absl::string_view digest) override;
  absl::StatusOr<PipelineRow> GetPipeline(int64_t id) override;
  absl::StatusOr<std::string> ReadSpec(absl::string_view digest) override;
  absl::StatusOr<std::vector<PipelineRow>> ListPipelines(absl::string_view project, absl::string_view after,
                                                         int limit) override;
  absl::StatusOr<std::vector<PipelineRow>> ListPipelineVersions(absl::string_view project, absl::string_view name,
                                                                int64_t before, int limit) override;

  absl::StatusOr<std::optional<DeletedRunRow>> NextDeletedRun() override;
  absl::StatusOr<std::vector<ArtifactId>> ListLooseArtifacts(RunKey run, ArtifactId after, int limit) override;
  absl::StatusOr<RunRemains> FindRemains(const DeletedRunRow& run) override;
  absl::StatusOr<std::vector<std::string>> ListBlobRemovals(absl::string_view after, int limit) override;
  absl::StatusOr<std::vector<std::string>> ListGoneReads(RunKey run, StepIx ix, uint32_t attempt) override;
  absl::StatusOr<std::vector<std::string>> FindBlobRemovals(const std::vector<std::string>& digests) override;

  absl::StatusOr<std::vector<OrchestratorRow>> ListOrchestrators(absl::string_view project) override;
  absl::StatusOr<std::vector<FlavorRow>> ListFlavors() override;
  absl::StatusOr<std::vector<PoolRow>> ListPools() override;
  absl::StatusOr<std::vector<StackRow>> ListStacks() override;
  absl::StatusOr<std::vector<ArtifactStoreRow>> ListArtifactStores() override;
  absl::StatusOr<std::vector<std::string>> ListBlobCopies(absl::string_view digest) override;
  absl::StatusOr<int64_t> CountBlobCopies(absl::string_view store) override;
  absl::StatusOr<std::vector<ApiTokenRow>> ListApiTokens() override;
  absl::StatusOr<std::vector<SecretRow>> ListSecrets(absl::string_view project) override;
  absl::StatusOr<SecretRow> GetSecret(absl::string_view project, absl::string_view name) override;
  absl::StatusOr<std::optional<RequestRow>> FindRequest(absl::string_view method, absl::string_view project,
                                                        absl::string_view request_id) override;
  absl::StatusOr<bool> HasRequestBefore(int64_t wall) override;

 private:
  std::unique_ptr<ConnectionPool> pool_;
  const int page_rows_;
};

// `; near names: a, b`, or nothing: up to three names of the table (`run`, `pipeline`, `artifact_name`) that begin as
// `name` does. Throws SQLite::Exception.
std::string NearNames(Connection& c, const char* table, absl::string_view project, absl::string_view name);

}  // namespace orch::store
