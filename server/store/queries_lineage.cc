#include "absl/strings/str_cat.h"
#include "server/store/encoding.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {

absl::StatusOr<std::vector<ArtifactRow>> QueriesImpl::ListOutputVersions(RunKey run, StepIx first, StepIx last,
                                                                         absl::string_view output, ArtifactId upto,
                                                                         int64_t limit) {
  return pool_->Read("reading what steps made", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactRow>> {
    auto s = c.Prepare(absl::StrCat("SELECT ", kArtifactColumnsNoValue,
                                    " FROM artifact a INDEXED BY artifact_by_step CROSS JOIN artifact_name n "
                                    "ON n.id = a.name_id WHERE a.run = ?1 AND a.ix BETWEEN ?2 AND ?3 AND a.id <= ?4 "
                                    "AND (?5 = '' OR a.output = ?5) ORDER BY a.ix, a.id LIMIT ?6"));
    s.Int(run).Int(first).Int(last).Int(upto).Text(output).Int(limit);
    std::vector<ArtifactRow> out;
    while (s.Next()) out.push_back(ReadArtifact(*s));
    return out;
  });
}

absl::StatusOr<std::vector<AttemptMark>> QueriesImpl::ListAttemptMarks(RunKey run, StepIx first, StepIx last,
                                                                       int limit) {
  return pool_->Read("reading attempts", [&](Connection& c) -> absl::StatusOr<std::vector<AttemptMark>> {
    auto s = c.Prepare(
        "SELECT ix, number, state, inputs_upto, created, external_inputs FROM attempt WHERE run = ? AND ix BETWEEN ? "
        "AND ? "
        "ORDER BY ix, number LIMIT ?");
    s.Int(run).Int(first).Int(last).Int(limit);
    std::vector<AttemptMark> out;
    while (s.Next()) {
      AttemptMark& mark = out.emplace_back();
      mark.ix = static_cast<StepIx>(s->getColumn(0).getInt64());
      mark.number = static_cast<uint32_t>(s->getColumn(1).getInt64());
      mark.state = static_cast<AttemptState>(s->getColumn(2).getInt());
      mark.inputs_upto = s->getColumn(3).getInt64();
      mark.created = s->getColumn(4).getInt64();
      mark.external = DecodeIds(s->getColumn(5).getString());
    }
    return out;
  });
}

absl::StatusOr<std::vector<ExternalReader>> QueriesImpl::ListExternalReaders(ArtifactId artifact, int limit) {
  return pool_->Read("reading who read it", [&](Connection& c) -> absl::StatusOr<std::vector<ExternalReader>> {
    auto s = c.Prepare(
        "SELECT a.run, a.ix, a.number, a.external_inputs FROM external_read e JOIN attempt a ON a.run = e.run AND "
        "a.ix = e.ix AND a.number = e.attempt WHERE e.artifact = ? ORDER BY e.run, e.ix, e.attempt LIMIT ?");
    s.Int(artifact).Int(limit);
    std::vector<ExternalReader> out;
    while (s.Next()) {
      ExternalReader& reader = out.emplace_back();
      reader.run = s->getColumn(0).getInt64();
      reader.ix = static_cast<StepIx>(s->getColumn(1).getInt64());
      reader.number = static_cast<uint32_t>(s->getColumn(2).getInt64());
      reader.external = DecodeIds(s->getColumn(3).getString());
    }
    return out;
  });
}

}  // namespace orch::store
