#include "server/store/recovery.h"

#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/store/row_readers.h"

namespace orch::store {

std::vector<RunKey> ReadLiveRunKeys(SQLite::Database& db) {
  std::vector<RunKey> out;
  SQLite::Statement s(db, "SELECT key FROM run INDEXED BY run_live WHERE state < 6");
  while (s.executeStep()) out.push_back(s.getColumn(0).getInt64());
  std::sort(out.begin(), out.end());
  return out;
}

bool ReadLiveRun(SQLite::Database& db, RunKey key, LiveRun* out) {
  {
    SQLite::Statement s(db, absl::StrCat("SELECT ", kRunColumns, " FROM ", kRunFrom, " WHERE r.key = ?"));
    s.bind(1, key);
    if (!s.executeStep()) return false;
    RunRecord record = ReadRun(s);
    out->header = std::move(record.header);
    out->row = std::move(record.row);
  }
  std::vector<bool> ended;  // by ix
  {
    SQLite::Statement s(db, absl::StrCat("SELECT ", kStepColumns, " FROM step WHERE run = ? ORDER BY ix"));
    s.bind(1, key);
    while (s.executeStep()) {
      out->steps.push_back(ReadStep(s));
      const StepRow& step = out->steps.back();
      if (ended.size() <= step.ix) ended.resize(step.ix + 1);
      ended[step.ix] = IsTerminal(step.state);
    }
  }
  {
    SQLite::Statement s(db,
                        absl::StrCat("SELECT ", kAttemptColumns, " FROM attempt WHERE run = ? ORDER BY ix, number"));
    s.bind(1, key);
    while (s.executeStep()) {
      const auto ix = static_cast<size_t>(s.getColumn(1).getInt64());
      const auto state = static_cast<AttemptState>(s.getColumn(3).getInt());
      const bool release_pending = s.getColumn(22).getInt() != 0;
      if (ix < ended.size() && ended[ix] && IsTerminal(state) && !release_pending) continue;
      out->attempts.push_back(ReadAttempt(s));
    }
  }
  int64_t fanouts_before = 0;
  if (out->header.numbering > 0) {
    SQLite::Statement s(db, "SELECT numbers, fanouts FROM numbering WHERE run = ? AND generation = ?");
    s.bind(1, key);
    s.bind(2, out->header.numbering);
    (void)s.executeStep();  // it was written with the header
    out->numbering = s.getColumn(0).getString();
    fanouts_before = s.getColumn(1).getInt64();
  }
  {
    SQLite::Statement s(
        db, absl::StrCat("SELECT ", kFanoutColumns, " FROM fanout WHERE run = ? AND number > ? ORDER BY number"));
    s.bind(1, key);
    s.bind(2, fanouts_before);
    while (s.executeStep()) out->fanouts.push_back(ReadFanout(s));
  }
  SQLite::Statement s(
      db, absl::StrCat("SELECT ", kArtifactColumnsNoValue, " FROM ", kArtifactFrom, " WHERE a.run = ? ORDER BY a.id"));
  s.bind(1, key);
  while (s.executeStep()) out->artifacts.push_back(ReadArtifact(s));
  return true;
}

std::vector<HookRow> ReadOpenHooks(SQLite::Database& db) {
  std::vector<HookRow> out;
  SQLite::Statement s(db, absl::StrCat("SELECT ", kHookColumns,
                                       " FROM hook INDEXED BY hook_open WHERE state < 3 ORDER BY created, run, ix"));
  while (s.executeStep()) out.push_back(ReadHook(s));
  return out;
}

std::vector<AttemptRow> ReadPendingReleases(SQLite::Database& db) {
  std::vector<AttemptRow> out;
  SQLite::Statement s(db, absl::StrCat("SELECT ", kAttemptColumns,
                                       " FROM attempt WHERE (run, ix, number) IN (SELECT p.run, p.ix, p.number FROM "
                                       "pending_release p JOIN run r ON r.key = p.run WHERE r.state >= 6) "
                                       "ORDER BY run, ix, number"));
  while (s.executeStep()) out.push_back(ReadAttempt(s));
  return out;
}

HighWater::Mark ReadStand(SQLite::Database& db) {
  HighWater::Mark out;
  SQLite::Statement s(
      db, "SELECT instance, epoch, max(compacted_sequence, (SELECT ifnull(max(sequence), 0) FROM event)) FROM meta");
  if (!s.executeStep()) return out;
  out.instance = s.getColumn(0).getString();
  out.epoch = s.getColumn(1).getInt64();
  out.sequence = s.getColumn(2).getInt64();
  return out;
}

namespace {

// Monotonic times of another boot mean nothing: those that still matter are made again from the wall clock. In the
// transaction that names the new boot, so that no start takes times of two boots for one.
void RebaseTimes(SQLite::Database& db, Now now) {
  const std::string from_wall = absl::StrCat(" + ", now.mono - now.wall, ")");
  const std::string live = " IN (SELECT key FROM run INDEXED BY run_live WHERE state < 6)";
  const auto set = [&](const char* column, const char* wall) {
    return absl::StrCat(column, " = iif(", wall, " = 0, 0, max(1, ", wall, from_wall, ")");
  };
  db.exec(absl::StrCat("UPDATE run_progress SET ", set("deadline_mono", "deadline"), " WHERE run", live));
  db.exec(absl::StrCat("UPDATE step SET ", set("retry_at_mono", "retry_at"), " WHERE retry_at <> 0 AND run", live));
  db.exec(absl::StrCat("UPDATE attempt SET ", set("created_mono", "created"), ", ", set("started_mono", "started"),
                       " WHERE state < ", static_cast<int>(AttemptState::kSucceeded), " AND run", live));
}

}  // namespace

Meta BeginEpoch(SQLite::Database& db, const std::string& boot_id, Now now) {
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  Meta meta;
  {
    SQLite::Statement make(db, "INSERT OR IGNORE INTO meta (id, instance, epoch, boot_id) VALUES (1, ?, 0, '')");
    make.bind(1, NewUuid(now.wall));
    make.exec();
    SQLite::Statement s(db,
                        "SELECT instance, epoch, boot_id, compacted_sequence, "
                        "max(compacted_sequence, (SELECT ifnull(max(sequence), 0) FROM event)), "
                        "max(run_floor, (SELECT ifnull(max(key), 0) + 1 FROM run)), "
                        "max(artifact_floor, (SELECT ifnull(max(id), 0) + 1 FROM artifact)), "
                        "max(pipeline_floor, (SELECT ifnull(max(id), 0) + 1 FROM pipeline)) FROM meta");
    (void)s.executeStep();  // there is one row now
    meta.instance = s.getColumn(0).getString();
    meta.epoch = s.getColumn(1).getInt64() + 1;
    meta.boot_id = s.getColumn(2).getString();
    meta.compacted_sequence = s.getColumn(3).getInt64();
    meta.last_sequence = s.getColumn(4).getInt64();
    meta.next_run_key = s.getColumn(5).getInt64();
    meta.next_artifact_id = s.getColumn(6).getInt64();
    meta.next_pipeline_id = s.getColumn(7).getInt64();
  }
  SQLite::Statement update(db, "UPDATE meta SET epoch = ?, boot_id = ?");
  update.bind(1, meta.epoch);
  update.bind(2, boot_id);
  update.exec();
  if (boot_id.empty() || boot_id != meta.boot_id) RebaseTimes(db, now);
  db.exec("DELETE FROM spec_slice WHERE digest IN (SELECT digest FROM spec_slice EXCEPT SELECT digest FROM pipeline)");
  transaction.commit();
  return meta;
}

}  // namespace orch::store
