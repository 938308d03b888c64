#include "server/store/removal_writer.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/store/hot_statement.h"

namespace orch::store {

namespace {

// What the cache entry ?1, ?2 alone keeps, if it was made at ?3 or that is 0.
constexpr char kKept[] =
    "(SELECT a.id FROM cache_entry e JOIN artifact a ON a.run = e.run AND a.ix = e.ix AND a.attempt = e.attempt "
    "JOIN artifact_name n ON n.id = a.name_id WHERE e.project = ?1 AND e.key = ?2 AND ?3 IN (0, e.created) "
    "AND n.name = e.pipeline || '.' || e.step || '.' || a.output "
    "AND NOT EXISTS (SELECT 1 FROM run r WHERE r.key = e.run) "
    "AND NOT EXISTS (SELECT 1 FROM cache_entry o WHERE o.run = e.run AND o.ix = e.ix AND o.attempt = e.attempt "
    "AND o.rowid <> e.rowid))";

}  // namespace

struct RemovalWriter::Statements {
  explicit Statements(SQLite::Database& db)
      : forget_name(db, "INSERT INTO run_name (run_name, rowid, name) VALUES ('delete', ?, ?)"),
        run(db, "DELETE FROM run WHERE key = ?"),
        hooks(db, "DELETE FROM hook WHERE run = ?"),
        deleted_run(db,
                    "INSERT INTO deleted_run (run, id, name, pipeline, last_sequence, deleted) "
                    "VALUES (?, ?, ?, ?, ?, ?)"),
        run_floor(db,
                  "UPDATE meta SET run_floor = max(run_floor, ?1 + 1), "
                  "compacted_sequence = max(compacted_sequence, ?2)"),
        steps(db, "DELETE FROM step WHERE run = ? AND ix >= ? AND ix < ?"),
        attempts(db, "DELETE FROM attempt WHERE run = ? AND ix >= ? AND ix < ?"),
        external_reads(db, "DELETE FROM external_read WHERE run = ? AND ix >= ? AND ix < ?"),
        releases(db, "DELETE FROM pending_release WHERE run = ? AND ix >= ? AND ix < ?"),
        events(db,
               "DELETE FROM event WHERE sequence IN (SELECT sequence FROM event INDEXED BY event_by_run "
               "WHERE run = ? AND sequence <= ? LIMIT ?)"),
        keep_read(db,
                  "UPDATE external_read SET digest = (SELECT a.digest FROM artifact a WHERE a.id = ?1) "
                  "WHERE artifact = ?1 AND digest IS NULL"),
        artifact(db, absl::StrCat("DELETE FROM artifact WHERE id IN (SELECT a.id FROM ", kArtifactsOfDeletedRuns,
                                  " WHERE a.id = ? AND NOT (", kPinnedArtifact, "))")
                         .c_str()),
        artifact_floor(db, "UPDATE meta SET artifact_floor = max(artifact_floor, ? + 1)"),
        list_blob(db,
                  "INSERT OR IGNORE INTO blob_removal (digest) SELECT b.digest FROM artifact a "
                  "JOIN blob b ON b.digest = a.digest WHERE a.id = ?"),
        cache_entry(db, "DELETE FROM cache_entry WHERE project = ? AND key = ? AND created = ?"),
        pruned_artifact(db,
                        "DELETE FROM artifact WHERE id = ?1 "
                        "AND NOT EXISTS (SELECT 1 FROM run r WHERE r.key = artifact.run AND r.state < 6) "
                        "AND NOT EXISTS (SELECT 1 FROM cache_entry e WHERE e.run = artifact.run AND e.ix = artifact.ix "
                        "AND e.attempt = artifact.attempt)"),
        is_entry(db, "SELECT 1 FROM cache_entry WHERE project = ? AND key = ?"),
        list_kept(db, absl::StrCat("INSERT OR IGNORE INTO blob_removal (digest) SELECT b.digest FROM artifact a "
                                   "JOIN blob b ON b.digest = a.digest WHERE a.id IN ",
                                   kKept)
                          .c_str()),
        kept_reads(db, absl::StrCat("UPDATE external_read SET digest = (SELECT a.digest FROM artifact a "
                                    "WHERE a.id = external_read.artifact) WHERE digest IS NULL AND artifact IN ",
                                    kKept)
                           .c_str()),
        kept_floor(db, absl::StrCat("UPDATE meta SET artifact_floor = (SELECT max(k.id) FROM ", kKept,
                                    " k) + 1 WHERE artifact_floor <= (SELECT max(k.id) FROM ", kKept, " k)")
                           .c_str()),
        kept(db, absl::StrCat("DELETE FROM artifact WHERE id IN ", kKept).c_str()),
        compact(db,
                "DELETE FROM event WHERE sequence IN "
                "(SELECT sequence FROM event WHERE sequence <= ? ORDER BY sequence LIMIT ?)"),
        compaction_mark(db, "UPDATE meta SET compacted_sequence = max(compacted_sequence, ?)"),
        checked(db,
                "DELETE FROM blob_removal WHERE digest = ?1 AND EXISTS (SELECT 1 FROM artifact a WHERE a.digest = ?1)"),
        unlist(db, "DELETE FROM blob_removal WHERE digest = ?"),
        blob(db,
             "DELETE FROM blob WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM artifact a WHERE a.digest = ?1) "
             "AND EXISTS (SELECT 1 FROM blob_removal r WHERE r.digest = ?1)"),
        blob_copies(
            db, "DELETE FROM blob_copy WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = ?1)"),
        requests(db,
                 "DELETE FROM request WHERE (project, method, request_id) IN (SELECT project, method, request_id "
                 "FROM request INDEXED BY request_by_created WHERE created < ? ORDER BY created LIMIT ?)"),
        cleaned(db, "DELETE FROM deleted_run WHERE run = ?") {}

  HotStatement forget_name, run, hooks, deleted_run, run_floor, steps, attempts, external_reads, releases, events,
      keep_read, artifact, artifact_floor, list_blob, cache_entry, pruned_artifact, is_entry, list_kept, kept_reads,
      kept_floor, kept, compact, compaction_mark, checked, unlist, blob, blob_copies, requests, cleaned;
};

RemovalWriter::RemovalWriter(SQLite::Database& db) : s_(std::make_unique<Statements>(db)) {}
RemovalWriter::~RemovalWriter() = default;

void RemovalWriter::RemoveKeptBy(const std::string& project, const std::string& key, int64_t created) {
  if (!s_->is_entry.Text(project).Blob(key).Any()) return;  // as for most that are new
  s_->list_kept.Text(project).Blob(key).Int(created).Run();
  s_->kept_reads.Text(project).Blob(key).Int(created).Run();
  s_->kept_floor.Text(project).Blob(key).Int(created).Run();
  s_->kept.Text(project).Blob(key).Int(created).Run();
}

int64_t RemovalWriter::Write(const Removals& removals) {
  if (removals.empty()) return 0;
  for (const DeletedRunRow& r : removals.runs) {
    s_->forget_name.Int(r.key).Text(r.name).Run();
    s_->run.Int(r.key).Run();
    s_->hooks.Int(r.key).Run();
    s_->deleted_run.Int(r.key).Text(r.id).Text(r.name).Text(r.pipeline).Int(r.last_sequence).Int(r.deleted).Run();
    s_->run_floor.Int(r.key).Int(r.last_sequence).Run();
  }
  for (const Removals::Steps& r : removals.steps) {
    s_->steps.Int(r.run).Int(r.first).Int(r.end).Run();
    s_->attempts.Int(r.run).Int(r.first).Int(r.end).Run();
    s_->external_reads.Int(r.run).Int(r.first).Int(r.end).Run();
    s_->releases.Int(r.run).Int(r.first).Int(r.end).Run();
  }
  for (const Removals::Events& r : removals.events) s_->events.Int(r.run).Int(r.up_to).Int(r.limit).Run();
  for (const ArtifactId id : removals.artifacts) {
    s_->list_blob.Int(id).Run();
    s_->keep_read.Int(id).Run();
    s_->artifact.Int(id).Run();
  }
  if (!removals.artifacts.empty()) {
    s_->artifact_floor.Int(*std::max_element(removals.artifacts.begin(), removals.artifacts.end())).Run();
  }
  for (const Removals::CacheEntry& r : removals.cache_entries) {
    RemoveKeptBy(r.project, r.key, r.created);
    s_->cache_entry.Text(r.project).Blob(r.key).Int(r.created).Run();
  }
  for (const ArtifactId id : removals.pruned_artifacts) {
    s_->list_blob.Int(id).Run();
    s_->keep_read.Int(id).Run();
    s_->pruned_artifact.Int(id).Run();
    s_->artifact_floor.Int(id).Run();
  }
  if (removals.compacted.up_to > 0) {
    s_->compact.Int(removals.compacted.up_to).Int(removals.compacted.limit).Run();
    s_->compaction_mark.Int(removals.compacted.up_to).Run();
  }
  for (const std::string& digest : removals.checked_blobs) s_->checked.Blob(digest).Run();
  for (const std::string& digest : removals.removed_blobs) {
    s_->blob.Blob(digest).Run();
    s_->blob_copies.Blob(digest).Run();
    s_->unlist.Blob(digest).Run();
  }
  if (removals.requests.before > 0) s_->requests.Int(removals.requests.before).Int(removals.requests.limit).Run();
  for (const RunKey run : removals.cleaned_runs) {
    s_->hooks.Int(run).Run();  // one that was on its way
    s_->cleaned.Int(run).Run();
  }
  return static_cast<int64_t>(removals.runs.size() + removals.steps.size() + removals.events.size() +
                              removals.artifacts.size() + removals.cache_entries.size() +
                              removals.pruned_artifacts.size() + removals.checked_blobs.size() +
                              removals.removed_blobs.size() + removals.cleaned_runs.size());
}

}  // namespace orch::store
