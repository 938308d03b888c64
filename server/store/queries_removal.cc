#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/store/queries_impl.h"
#include "server/store/removal_writer.h"

namespace orch::store {

absl::StatusOr<std::optional<DeletedRunRow>> QueriesImpl::NextDeletedRun() {
  return pool_->Read("reading deleted runs", [&](Connection& c) -> absl::StatusOr<std::optional<DeletedRunRow>> {
    auto s = c.Prepare("SELECT run, id, name, pipeline, last_sequence, deleted FROM deleted_run ORDER BY run LIMIT 1");
    if (!s.Next()) return std::optional<DeletedRunRow>();
    return std::optional<DeletedRunRow>({s->getColumn(0).getInt64(), s->getColumn(1).getString(),
                                         s->getColumn(2).getString(), s->getColumn(3).getString(),
                                         s->getColumn(4).getInt64(), s->getColumn(5).getInt64()});
  });
}

absl::StatusOr<bool> QueriesImpl::HasRequestBefore(int64_t wall) {
  return pool_->Read("looking for old requests", [&](Connection& c) -> absl::StatusOr<bool> {
    auto s = c.Prepare("SELECT 1 FROM request INDEXED BY request_by_created WHERE created < ? LIMIT 1");
    return s.Int(wall).Next();
  });
}

absl::StatusOr<std::vector<ArtifactId>> QueriesImpl::ListLooseArtifacts(RunKey run, ArtifactId after, int limit) {
  return pool_->Read("listing loose artifacts", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactId>> {
    auto s =
        c.Prepare(absl::StrCat("SELECT a.id FROM ", kArtifactsOfDeletedRuns, " WHERE a.run = ? AND a.id > ? AND NOT (",
                               kPinnedArtifact, ") ORDER BY a.id LIMIT ?"));
    s.Int(run).Int(after).Int(limit);
    std::vector<ArtifactId> out;
    while (s.Next()) out.push_back(s->getColumn(0).getInt64());
    return out;
  });
}

absl::StatusOr<Queries::RunRemains> QueriesImpl::FindRemains(const DeletedRunRow& run) {
  return pool_->Read("reading what is left of a run", [&](Connection& c) -> absl::StatusOr<RunRemains> {
    RunRemains out;
    auto step = c.Prepare("SELECT max(ix) FROM step WHERE run = ?");
    if (step.Int(run.key).Next() && !step->getColumn(0).isNull()) {
      out.last_step = static_cast<StepIx>(step->getColumn(0).getInt64());
    }
    auto event = c.Prepare(
        "SELECT 1 FROM event INDEXED BY event_by_run WHERE run = ? AND sequence <= ? ORDER BY sequence LIMIT 1");
    out.events = event.Int(run.key).Int(run.last_sequence).Next();
    return out;
  });
}

absl::StatusOr<std::vector<std::string>> QueriesImpl::ListBlobRemovals(absl::string_view after, int limit) {
  return pool_->Read("listing blobs to remove", [&](Connection& c) -> absl::StatusOr<std::vector<std::string>> {
    auto s = c.Prepare("SELECT digest FROM blob_removal WHERE digest > ? ORDER BY digest LIMIT ?");
    s.Blob(after).Int(limit);
    std::vector<std::string> out;
    while (s.Next()) out.push_back(s->getColumn(0).getString());
    return out;
  });
}

absl::StatusOr<std::vector<std::string>> QueriesImpl::ListGoneReads(RunKey run, StepIx ix, uint32_t attempt) {
  return pool_->Read("reading what was read", [&](Connection& c) -> absl::StatusOr<std::vector<std::string>> {
    auto s = c.Prepare("SELECT digest FROM external_read WHERE run = ? AND ix = ? AND attempt = ? AND digest NOT NULL");
    s.Int(run).Int(ix).Int(attempt);
    std::vector<std::string> out;
    while (s.Next()) out.push_back(s->getColumn(0).getString());
    return out;
  });
}

absl::StatusOr<std::vector<std::string>> QueriesImpl::FindBlobRemovals(const std::vector<std::string>& digests) {
  return pool_->Read("reading blobs to remove", [&](Connection& c) -> absl::StatusOr<std::vector<std::string>> {
    std::vector<std::string> out;
    for (const std::string& digest : digests) {
      auto s = c.Prepare("SELECT 1 FROM blob_removal WHERE digest = ?");
      if (s.Blob(digest).Next()) out.push_back(digest);
    }
    return out;
  });
}

}  // namespace orch::store
