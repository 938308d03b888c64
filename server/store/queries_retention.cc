#include "absl/strings/str_cat.h"
#include "server/store/encoding.h"
#include "server/store/queries_impl.h"

namespace orch::store {

absl::StatusOr<std::vector<EndedRun>> QueriesImpl::ListEndedRuns(RunKey before, int limit) {
  return pool_->Read("listing ended runs", [&](Connection& c) -> absl::StatusOr<std::vector<EndedRun>> {
    auto s = c.Prepare(
        "SELECT r.key, r.id, r.name, p.ended FROM run r CROSS JOIN run_progress p ON p.run = r.key "
        "WHERE r.key < ? AND r.state >= 6 ORDER BY r.key DESC LIMIT ?");
    s.Int(before <= 0 ? INT64_MAX : before).Int(limit);
    std::vector<EndedRun> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getInt64(), s->getColumn(1).getString(), s->getColumn(2).getString(),
                     s->getColumn(3).getInt64()});
    }
    return out;
  });
}

absl::StatusOr<int64_t> QueriesImpl::SizeOfRun(RunKey run) {
  return pool_->Read("measuring a run", [&](Connection& c) -> absl::StatusOr<int64_t> {
    auto s = c.Prepare(
        "SELECT ifnull((SELECT sum(size) FROM artifact WHERE run = ?1), 0) + "
        "ifnull((SELECT sum(stdout_bytes + stderr_bytes) FROM attempt WHERE run = ?1), 0)");
    return s.Int(run).Next() ? s->getColumn(0).getInt64() : 0;
  });
}

absl::StatusOr<std::vector<CacheEntryMark>> QueriesImpl::ListCacheMarks(int64_t after, int limit) {
  return pool_->Read("listing cache entries", [&](Connection& c) -> absl::StatusOr<std::vector<CacheEntryMark>> {
    auto s = c.Prepare(
        "SELECT e.rowid, e.project, e.key, e.created, e.artifacts, r.name, t.name, e.run, e.ix, e.attempt FROM "
        "cache_entry e "
        "LEFT JOIN run r ON r.key = e.run LEFT JOIN step t ON t.run = e.run AND t.ix = e.ix "
        "WHERE e.rowid > ? ORDER BY e.rowid LIMIT ?");
    s.Int(after).Int(limit);
    std::vector<CacheEntryMark> out;
    while (s.Next()) {
      CacheEntryMark& mark = out.emplace_back();
      mark.number = s->getColumn(0).getInt64();
      mark.project = s->getColumn(1).getString();
      mark.key = s->getColumn(2).getString();
      mark.created = s->getColumn(3).getInt64();
      for (const int64_t id : DecodeIds(s->getColumn(4).getString())) {
        auto size = c.Prepare("SELECT size FROM artifact WHERE id = ?");
        if (size.Int(id).Next()) mark.bytes += size->getColumn(0).getInt64();
      }
      mark.run = s->getColumn(7).getInt64();
      mark.ix = static_cast<StepIx>(s->getColumn(8).getInt64());
      mark.attempt = static_cast<uint32_t>(s->getColumn(9).getInt64());
      mark.name = s->getColumn(5).isNull()
                      ? "of a run that was deleted"
                      : absl::StrCat(s->getColumn(5).getString(), " ", s->getColumn(6).getString());
    }
    return out;
  });
}

absl::StatusOr<std::vector<ArtifactMark>> QueriesImpl::ListArtifactMarks(ArtifactId before, int limit) {
  return pool_->Read("listing what artifacts need", [&](Connection& c) -> absl::StatusOr<std::vector<ArtifactMark>> {
    auto s = c.Prepare(
        "SELECT a.id, n.name || '@' || a.version, a.size, a.created, n.versions - a.version, "
        // Of a run that is gone only what had a name of its own, or was in the cache, has stayed.
        "CASE WHEN r.state < 6 THEN 'run ' || r.name || ', which has not ended' "
        "WHEN r.key IS NULL OR n.name <> r.pipeline || '.' || t.name || '.' || a.output THEN 'its own name' "
        "ELSE '' END, "
        "EXISTS (SELECT 1 FROM cache_entry e WHERE e.run = a.run AND e.ix = a.ix AND e.attempt = a.attempt), "
        "a.run, a.ix, a.attempt "
        "FROM artifact a CROSS JOIN artifact_name n ON n.id = a.name_id LEFT JOIN run r ON r.key = a.run "
        "LEFT JOIN step t ON t.run = a.run AND t.ix = a.ix WHERE a.id < ? ORDER BY a.id DESC LIMIT ?");
    s.Int(before <= 0 ? INT64_MAX : before).Int(limit);
    std::vector<ArtifactMark> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getInt64(), s->getColumn(1).getString(), s->getColumn(2).getInt64(),
                     s->getColumn(3).getInt64(), s->getColumn(4).getInt64(), s->getColumn(5).getString(),
                     s->getColumn(6).getInt() != 0, s->getColumn(7).getInt64(),
                     static_cast<StepIx>(s->getColumn(8).getInt64()),
                     static_cast<uint32_t>(s->getColumn(9).getInt64())});
    }
    return out;
  });
}

absl::StatusOr<EventMarks> QueriesImpl::MarkEvents(int64_t last, int64_t time) {
  return pool_->Read("measuring the event log", [&](Connection& c) -> absl::StatusOr<EventMarks> {
    EventMarks out;
    out.first = last + 1;
    auto first = c.Prepare("SELECT min(sequence) FROM event");
    if (first.Next() && !first->getColumn(0).isNull()) out.first = first->getColumn(0).getInt64();
    auto mean = c.Prepare(
        "SELECT ifnull(avg(60 + ifnull(length(message), 0) + ifnull(length(output), 0)), 0) FROM "
        "(SELECT message, output FROM event ORDER BY sequence DESC LIMIT 1000)");
    if (mean.Next()) out.bytes_each = static_cast<int64_t>(mean->getColumn(0).getDouble());
    // Times follow the sequence, but for steps of the clock, which do no harm here: the last one before `time`.
    int64_t low = out.first - 1;
    int64_t high = time > 0 ? last : low;
    while (low < high) {
      const int64_t middle = low + (high - low + 1) / 2;
      auto at = c.Prepare("SELECT time FROM event WHERE sequence <= ? ORDER BY sequence DESC LIMIT 1");
      if (at.Int(middle).Next() && at->getColumn(0).getInt64() < time) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    out.before_time = low;
    return out;
  });
}

absl::StatusOr<int64_t> QueriesImpl::CountEvents(int64_t up_to) {
  return pool_->Read("counting events", [&](Connection& c) -> absl::StatusOr<int64_t> {
    auto s = c.Prepare("SELECT count(*) FROM event WHERE sequence <= ?");
    return s.Int(up_to).Next() ? s->getColumn(0).getInt64() : 0;
  });
}

}  // namespace orch::store
