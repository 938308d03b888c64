#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/store/encoding.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {
namespace {

// An artifact with the names of what made it; its run may be gone.
constexpr char kRecordFrom[] =
    "artifact a CROSS JOIN artifact_name n ON n.id = a.name_id LEFT JOIN run r ON r.key = a.run "
    "LEFT JOIN step t ON t.run = a.run AND t.ix = a.ix LEFT JOIN blob b ON b.digest = a.digest";

std::string RecordSql(absl::string_view rest) {
  return absl::StrCat("SELECT ", kArtifactColumns, ", r.name, r.id, t.name, b.directory FROM ", kRecordFrom, " ", rest);
}

ArtifactRecord ReadRecord(SQLite::Statement& s) {
  ArtifactRecord out;
  out.row = ReadArtifact(s);
  out.run_name = s.getColumn(kArtifactColumnCount).getString();
  out.run_id = s.getColumn(kArtifactColumnCount + 1).getString();
  out.step_name = s.getColumn(kArtifactColumnCount + 2).getString();
  out.directory = s.getColumn(kArtifactColumnCount + 3).getInt() != 0;
  return out;
}

// 0: no such name.
int64_t NameId(Connection& c, absl::string_view project, absl::string_view name) {
  auto s = c.Prepare("SELECT id FROM artifact_name WHERE project = ? AND name = ?");
  return s.Text(project).Text(name).Next() ? s->getColumn(0).getInt64() : 0;
}

absl::StatusOr<ArtifactRow> ReadById(Connection& c, ArtifactId id) {
  auto s = c.Prepare(absl::StrCat("SELECT ", kArtifactColumns, " FROM ", kArtifactFrom, " WHERE a.id = ?"));
  if (s.Int(id).Next()) return ReadArtifact(*s);
  return Error(absl::StatusCode::kNotFound, "ARTIFACT_NOT_FOUND", absl::StrCat("there is no artifact art-", id));
}

}  // namespace

absl::StatusOr<ArtifactRecord> QueriesImpl::FindArtifact(absl::string_view project, absl::string_view name) {
  return pool_->Read("reading an artifact", [&](Connection& c) -> absl::StatusOr<ArtifactRecord> {
    absl::string_view number = name;
    int64_t id = 0;
    if (absl::ConsumePrefix(&number, "art-") && absl::SimpleAtoi(number, &id)) {
      auto s = c.Prepare(RecordSql("WHERE a.id = ? AND n.project = ?"));
      if (s.Int(id).Text(project).Next()) return ReadRecord(*s);
    }
    absl::string_view bare = name;
    int64_t version = 0;
    const size_t at = name.rfind('@');
    if (at != absl::string_view::npos && absl::SimpleAtoi(name.substr(at + 1), &version)) bare = name.substr(0, at);
    if (const int64_t name_id = NameId(c, project, bare); name_id != 0) {
      auto s = c.Prepare(RecordSql(bare.size() == name.size() ? "WHERE a.name_id = ? ORDER BY a.version DESC LIMIT 1"
                                                              : "WHERE a.name_id = ? AND a.version = ?"));
      s.Int(name_id);
      if (bare.size() != name.size()) s.Int(version);
      if (s.Next()) return ReadRecord(*s);
    }
    return Error(absl::StatusCode::kNotFound, "ARTIFACT_NOT_FOUND",
                 absl::StrCat("there is no artifact '", name, "' in project '", project, "'",
                              NearNames(c, "artifact_name", project, bare), "; `orchctl list-artifacts` shows all"));
  });
}

absl::StatusOr<Queries::LandedArtifact> QueriesImpl::FindLandedArtifact(absl::string_view project,
                                                                        absl::string_view name, int64_t version) {
  return pool_->Read("looking for an artifact", [&](Connection& c) -> absl::StatusOr<LandedArtifact> {
    LandedArtifact out;
    auto known = c.Prepare("SELECT id, versions FROM artifact_name WHERE project = ? AND name = ?");
    if (!known.Text(project).Text(name).Next()) return out;
    const int64_t name_id = known->getColumn(0).getInt64();
    const int64_t newest = known->getColumn(1).getInt64();
    auto s = c.Prepare(absl::StrCat(
        "SELECT a.id FROM artifact a WHERE a.name_id = ? AND (a.early = 0 OR EXISTS (SELECT 1 FROM step s WHERE "
        "s.run = a.run AND s.ix = a.ix AND s.attempt = a.attempt AND s.state = ?)) ",
        version == 0 ? "ORDER BY a.version DESC LIMIT 1" : "AND a.version = ?"));
    s.Int(name_id).Int(static_cast<int64_t>(StepState::kSucceeded));
    if (version != 0) s.Int(version);
    if (s.Next()) {
      out.id = s->getColumn(0).getInt64();
      return out;
    }
    if (version == 0 || version > newest) return out;
    auto row = c.Prepare("SELECT 1 FROM artifact WHERE name_id = ? AND version = ?");
    out.deleted = !row.Int(name_id).Int(version).Next();
    return out;
  });
}

absl::StatusOr<std::vector<ArtifactRecord>> QueriesImpl::ListArtifacts(const ArtifactFilter& filter, ArtifactId before,
                                                                       int limit) {
  return pool_->Read("listing artifacts", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactRecord>> {
    std::vector<ArtifactRecord> out;
    int64_t name_id = 0;
    if (!filter.name.empty()) {
      name_id = NameId(c, filter.project, filter.name);
      if (name_id == 0) return out;
    }
    std::string where = "WHERE a.id < ? AND n.project = ?";
    if (filter.run != 0) absl::StrAppend(&where, " AND a.run = ?");
    if (filter.ix) absl::StrAppend(&where, " AND a.ix = ?");
    if (name_id != 0) absl::StrAppend(&where, " AND a.name_id = ?");
    absl::StrAppend(&where, " ORDER BY a.id DESC LIMIT ?");
    auto s = c.Prepare(RecordSql(where));
    s.Int(before <= 0 ? INT64_MAX : before).Text(filter.project);
    if (filter.run != 0) s.Int(filter.run);
    if (filter.ix) s.Int(*filter.ix);
    if (name_id != 0) s.Int(name_id);
    s.Int(limit);
    while (s.Next()) out.push_back(ReadRecord(*s));
    return out;
  });
}

absl::StatusOr<std::vector<ArtifactRow>> QueriesImpl::GetArtifacts(const std::vector<ArtifactId>& ids) {
  return pool_->Read("reading artifacts", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactRow>> {
    std::vector<ArtifactRow> out;
    out.reserve(ids.size());
    for (ArtifactId id : ids) {
      ASSIGN_OR_RETURN(ArtifactRow row, ReadById(c, id));
      out.push_back(std::move(row));
    }
    return out;
  });
}

absl::StatusOr<std::optional<BlobRow>> QueriesImpl::GetBlob(absl::string_view digest) {
  return pool_->Read("reading a blob", [&](Connection& c) -> absl::StatusOr<std::optional<BlobRow>> {
    auto s = c.Prepare("SELECT size, directory, inline_bytes FROM blob WHERE digest = ?");
    if (!s.Blob(digest).Next()) return std::optional<BlobRow>();
    BlobRow r;
    r.digest = std::string(digest);
    r.size = s->getColumn(0).getInt64();
    r.directory = s->getColumn(1).getInt() != 0;
    if (const SQLite::Column bytes = s->getColumn(2); !bytes.isNull()) r.inline_bytes = bytes.getString();
    return std::optional<BlobRow>(std::move(r));
  });
}

}  // namespace orch::store
