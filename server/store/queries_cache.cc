// Entries of the cache, looks into it that found nothing, and how long steps took.
#include <SQLiteCpp/Column.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/store/encoding.h"
#include "server/store/queries_impl.h"
#include "server/store/row_readers.h"

namespace orch::store {
namespace {

const std::string& EntrySql() {
  static const auto* const kSql = new std::string(
      "SELECT run, ix, attempt, artifacts, created, run_name FROM cache_entry WHERE project = ? AND key = ?");
  return *kSql;
}

const std::string& ArtifactSql() {
  static const auto* const kSql =
      new std::string(absl::StrCat("SELECT ", kArtifactColumns, " FROM ", kArtifactFrom, " WHERE a.id = ?"));
  return *kSql;
}

std::optional<Queries::CacheHit> FindEntry(Connection& c, absl::string_view project, absl::string_view key) {
  Queries::CacheHit hit;
  {
    auto s = c.Prepare(EntrySql());
    if (!s.Text(project).Blob(key).Next()) return std::nullopt;
    hit.entry.run = s->getColumn(0).getInt64();
    hit.entry.ix = static_cast<StepIx>(s->getColumn(1).getInt64());
    hit.entry.attempt = static_cast<uint32_t>(s->getColumn(2).getInt64());
    hit.entry.artifacts = DecodeIds(s->getColumn(3).getText());
    hit.entry.created = s->getColumn(4).getInt64();
    hit.entry.run_name = s->getColumn(5).getText();
  }
  hit.entry.project = std::string(project);
  hit.entry.key = std::string(key);
  for (const ArtifactId id : hit.entry.artifacts) {
    auto s = c.Prepare(ArtifactSql());
    if (!s.Int(id).Next()) return std::nullopt;  // an entry that outlived one of its artifacts is a miss
    hit.artifacts.push_back(ReadArtifact(*s));
  }
  return hit;
}

}  // namespace

absl::Status QueriesImpl::ReadCache(absl::string_view project,
                                    const std::function<absl::Status(const CacheFinder&)>& read) {
  return pool_->Read("looking into the cache", [&](Connection& c) -> absl::Status {
    return read([&](absl::string_view key) { return FindEntry(c, project, key); });
  });
}

absl::StatusOr<std::optional<CacheEntryRow>> QueriesImpl::NewestCacheEntry(absl::string_view project,
                                                                           absl::string_view pipeline,
                                                                           absl::string_view step, int64_t before,
                                                                           RunKey not_of) {
  return pool_->Read("reading the cache", [&](Connection& c) -> absl::StatusOr<std::optional<CacheEntryRow>> {
    auto s = c.Prepare(
        "SELECT key, run, ix, attempt, parts_json, created, run_name FROM cache_entry INDEXED BY cache_entry_by_name "
        "WHERE project = ? AND pipeline = ? AND step = ? AND created < ? AND run <> ? ORDER BY created DESC LIMIT 1");
    if (!s.Text(project).Text(pipeline).Text(step).Int(before).Int(not_of).Next()) {
      return std::optional<CacheEntryRow>();
    }
    CacheEntryRow row;
    row.project = std::string(project);
    row.key = s->getColumn(0).getString();
    row.run = s->getColumn(1).getInt64();
    row.ix = static_cast<StepIx>(s->getColumn(2).getInt64());
    row.attempt = static_cast<uint32_t>(s->getColumn(3).getInt64());
    row.parts_json = s->getColumn(4).getString();
    row.created = s->getColumn(5).getInt64();
    row.run_name = s->getColumn(6).getString();
    row.pipeline = std::string(pipeline);
    row.step = std::string(step);
    return std::optional<CacheEntryRow>(std::move(row));
  });
}

absl::StatusOr<std::optional<CacheMissRow>> QueriesImpl::GetCacheMiss(RunKey run, StepIx ix) {
  return pool_->Read("reading the cache", [&](Connection& c) -> absl::StatusOr<std::optional<CacheMissRow>> {
    auto s = c.Prepare("SELECT attempt, key, parts_json, verdict, created FROM cache_miss WHERE run = ? AND ix = ?");
    if (!s.Int(run).Int(ix).Next()) return std::optional<CacheMissRow>();
    CacheMissRow row;
    row.run = run;
    row.ix = ix;
    row.attempt = static_cast<uint32_t>(s->getColumn(0).getInt64());
    row.key = s->getColumn(1).getString();
    row.parts_json = s->getColumn(2).getString();
    row.verdict = static_cast<CacheVerdict>(s->getColumn(3).getInt());
    row.created = s->getColumn(4).getInt64();
    return std::optional<CacheMissRow>(std::move(row));
  });
}

absl::StatusOr<std::vector<std::string>> QueriesImpl::ListCacheKeys(absl::string_view project,
                                                                    absl::string_view pipeline, absl::string_view step,
                                                                    int64_t until) {
  return pool_->Read("reading the cache", [&](Connection& c) -> absl::StatusOr<std::vector<std::string>> {
    std::string sql = "SELECT key FROM cache_entry WHERE project = ? AND pipeline = ? AND created <= ?";
    // `train` is the plain step and all instances of a fan-out; the character after `[` ends their range.
    const bool all_instances = !step.empty() && step.back() != ']';
    if (all_instances) absl::StrAppend(&sql, " AND (step = ? OR (step >= ? AND step < ?))");
    if (!step.empty() && !all_instances) absl::StrAppend(&sql, " AND step = ?");
    auto s = c.Prepare(sql);
    s.Text(project).Text(pipeline).Int(until);
    if (!step.empty()) s.Text(step);
    if (all_instances) s.Text(absl::StrCat(step, "[")).Text(absl::StrCat(step, "\\"));
    std::vector<std::string> out;
    while (s.Next()) out.push_back(s->getColumn(0).getString());
    return out;
  });
}

absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> QueriesImpl::ListStepDurations(RunKey run) {
  using Durations = std::vector<std::pair<std::string, int64_t>>;
  return pool_->Read("reading durations", [&](Connection& c) -> absl::StatusOr<Durations> {
    auto s = c.Prepare("SELECT name, ended - started FROM step WHERE run = ? AND state = 8 AND started > 0");
    s.Int(run);
    Durations out;
    while (s.Next()) out.emplace_back(s->getColumn(0).getText(), s->getColumn(1).getInt64());
    return out;
  });
}

}  // namespace orch::store
