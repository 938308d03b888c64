#include "server/store/queries.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/store/list_runs.h"
#include "server/store/pragmas.h"
#include "server/store/queries_impl.h"
#include "server/store/recovery.h"
#include "server/store/row_readers.h"

namespace orch::store {

absl::StatusOr<std::unique_ptr<Queries>> Queries::Open(const Options& options) {
  ASSIGN_OR_RETURN(auto pool, ConnectionPool::Open(DatabasePath(options.data_dir), options.connections,
                                                   options.query_deadline_micros));
  return std::unique_ptr<Queries>(std::make_unique<QueriesImpl>(std::move(pool), options.page_rows));
}

std::string NearNames(Connection& c, const char* table, absl::string_view project, absl::string_view name) {
  // Ever shorter beginnings, down to two characters; each a range of the index of names.
  for (size_t size = name.size(); size >= 2; size = size > 4 ? size / 2 : size - 1) {
    std::string end(name.substr(0, size));
    end.push_back('\xff');
    auto s = c.Prepare(absl::StrCat("SELECT DISTINCT name FROM ", table,
                                    " WHERE project = ? AND name >= ? AND name < ? ORDER BY name LIMIT 3"));
    s.Text(project).Text(name.substr(0, size)).Text(end);
    std::vector<std::string> near;
    while (s.Next()) near.push_back(s->getColumn(0).getString());
    if (!near.empty()) return absl::StrCat("; near names: ", absl::StrJoin(near, ", "));
  }
  return "";
}

namespace {

std::string RunSql(const char* where) {
  return absl::StrCat("SELECT ", kRunColumns, " FROM ", kRunFrom, " WHERE ", where);
}

}  // namespace

absl::StatusOr<RunRecord> QueriesImpl::FindRun(absl::string_view project, absl::string_view name_or_id) {
  return pool_->Read("reading a run", [&](Connection& c) -> absl::StatusOr<RunRecord> {
    auto by_name = c.Prepare(RunSql("r.project = ? AND r.name = ?"));
    if (by_name.Text(project).Text(name_or_id).Next()) return ReadRun(*by_name);
    auto by_id = c.Prepare(RunSql("r.id = ? AND r.project = ?"));
    if (by_id.Text(name_or_id).Text(project).Next()) return ReadRun(*by_id);
    return Error(absl::StatusCode::kNotFound, "RUN_NOT_FOUND",
                 absl::StrCat("there is no run '", name_or_id, "' in project '", project, "'",
                              NearNames(c, "run", project, name_or_id), "; `orchctl list-runs` shows all"));
  });
}

absl::StatusOr<bool> QueriesImpl::HasRun(absl::string_view project, absl::string_view name_or_id) {
  return pool_->Read("looking for a run", [&](Connection& c) -> absl::StatusOr<bool> {
    auto s = c.Prepare(
        "SELECT 1 FROM run WHERE project = ? AND name = ? UNION ALL SELECT 1 FROM run WHERE id = ? AND project = ?");
    return s.Text(project).Text(name_or_id).Text(name_or_id).Text(project).Next();
  });
}

absl::StatusOr<RunRecord> QueriesImpl::GetRun(RunKey key) {
  return pool_->Read("reading a run", [&](Connection& c) -> absl::StatusOr<RunRecord> {
    auto s = c.Prepare(RunSql("r.key = ?"));
    if (s.Int(key).Next()) return ReadRun(*s);
    return Error(absl::StatusCode::kNotFound, "RUN_NOT_FOUND",
                 absl::StrCat("there is no run with key ", key, ": it was deleted"));
  });
}

absl::StatusOr<std::vector<GenerationRow>> QueriesImpl::ListGenerations(RunKey run) {
  return pool_->Read("listing generations", [&](Connection& c) -> absl::StatusOr<std::vector<GenerationRow>> {
    auto s = c.Prepare(
        "SELECT generation, pipeline_version, parameters_json, state, reason, ifnull(message, ''), started, ended "
        "FROM run_generation WHERE run = ? ORDER BY generation");
    s.Int(run);
    std::vector<GenerationRow> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getInt(), s->getColumn(1).getInt64(), s->getColumn(2).getString(),
                     static_cast<RunState>(s->getColumn(3).getInt()), static_cast<Reason>(s->getColumn(4).getInt()),
                     s->getColumn(5).getString(), s->getColumn(6).getInt64(), s->getColumn(7).getInt64()});
    }
    return out;
  });
}

absl::StatusOr<LiveRun> QueriesImpl::LoadEndedRun(RunKey key) {
  return pool_->Read("loading a run", [&](Connection& c) -> absl::StatusOr<LiveRun> {
    LiveRun run;
    if (ReadLiveRun(c.db(), key, &run)) return run;
    return Error(absl::StatusCode::kNotFound, "RUN_NOT_FOUND",
                 absl::StrCat("there is no run with key ", key, ": it was deleted"));
  });
}

absl::StatusOr<RunPage> QueriesImpl::PageOfRuns(const RunFilter& filter, RunOrder order, const RunPlace& after,
                                                int limit) {
  return pool_->Read("listing runs", [&](Connection& c) -> absl::StatusOr<RunPage> {
    FoundRuns found = FindRuns(c, filter, order, after, limit, page_rows_);
    RunPage page;
    page.next = std::move(found.next);
    for (const RunKey key : found.keys) {
      auto s = c.Prepare(RunSql("r.key = ?"));
      if (s.Int(key).Next()) page.runs.push_back(ReadRun(*s));
    }
    return page;
  });
}

absl::StatusOr<std::vector<RunRecord>> Queries::ListRuns(const RunFilter& filter, RunKey before, int limit) {
  std::vector<RunRecord> out;
  std::optional<RunPlace> place = RunPlace{before, ""};
  while (place && static_cast<int>(out.size()) < limit) {
    ASSIGN_OR_RETURN(RunPage page,
                     PageOfRuns(filter, RunOrder::kNewestFirst, *place, limit - static_cast<int>(out.size())));
    for (RunRecord& run : page.runs) out.push_back(std::move(run));
    place = std::move(page.next);
  }
  return out;
}

absl::StatusOr<std::vector<FanoutRow>> QueriesImpl::ListFanouts(RunKey run, int numbering, int64_t after) {
  return pool_->Read("reading a run's fan-outs", [&](Connection& c) -> absl::StatusOr<std::vector<FanoutRow>> {
    auto s = c.Prepare(absl::StrCat(
        "SELECT ", kFanoutColumns,
        " FROM fanout WHERE run = ?1 AND number > max(?3, "
        "ifnull((SELECT fanouts FROM numbering WHERE run = ?1 AND generation = ?2), 0)) AND number <= "
        "ifnull((SELECT min(fanouts) FROM numbering WHERE run = ?1 AND generation > ?2), number) ORDER BY number"));
    s.Int(run).Int(numbering).Int(after);
    std::vector<FanoutRow> out;
    while (s.Next()) out.push_back(ReadFanout(*s));
    return out;
  });
}

absl::StatusOr<std::string> QueriesImpl::GetNumbering(RunKey run, int generation) {
  return pool_->Read("reading the numbers of a run's steps", [&](Connection& c) -> absl::StatusOr<std::string> {
    auto s = c.Prepare("SELECT numbers FROM numbering WHERE run = ? AND generation = ?");
    s.Int(run).Int(generation);
    if (s.Next()) return s->getColumn(0).getString();
    return Error(absl::StatusCode::kNotFound, "RUN_NOT_FOUND",
                 absl::StrCat("there is no run with key ", run, ": it was deleted"));
  });
}

absl::StatusOr<std::vector<AttemptRow>> QueriesImpl::ListAttempts(RunKey run, StepIx ix) {
  return pool_->Read("listing attempts", [&](Connection& c) -> absl::StatusOr<std::vector<AttemptRow>> {
    auto s =
        c.Prepare(absl::StrCat("SELECT ", kAttemptColumns, " FROM attempt WHERE run = ? AND ix = ? ORDER BY number"));
    s.Int(run).Int(ix);
    std::vector<AttemptRow> out;
    while (s.Next()) out.push_back(ReadAttempt(*s));
    return out;
  });
}

absl::StatusOr<std::vector<EventRow>> QueriesImpl::ListEvents(RunKey run, int64_t after, int limit) {
  return pool_->Read("listing events", [&](Connection& c) -> absl::StatusOr<std::vector<EventRow>> {
    // `run = ?1` of one run; of all the parameter is only mentioned, so that both bind alike.
    auto s = c.Prepare(absl::StrCat("SELECT ", kEventColumns, " FROM event ",
                                    run != 0 ? "INDEXED BY event_by_run WHERE run = ?1" : "WHERE ?1 = 0",
                                    " AND sequence > ?2 ORDER BY sequence LIMIT ?3"));
    s.Int(run).Int(after).Int(limit);
    std::vector<EventRow> out;
    while (s.Next()) out.push_back(ReadEvent(*s));
    return out;
  });
}

absl::StatusOr<int64_t> QueriesImpl::CompactedSequence() {
  return pool_->Read("reading the compaction mark", [&](Connection& c) -> absl::StatusOr<int64_t> {
    auto s = c.Prepare("SELECT compacted_sequence FROM meta");
    return s.Next() ? s->getColumn(0).getInt64() : 0;
  });
}

absl::StatusOr<std::vector<OrchestratorRow>> QueriesImpl::ListOrchestrators(absl::string_view project) {
  return pool_->Read("listing orchestrators", [&](Connection& c) -> absl::StatusOr<std::vector<OrchestratorRow>> {
    auto s = c.Prepare(
        "SELECT project, name, flavor, config_json, max_parallel, created, updated, version, rate_milli "
        "FROM orchestrator WHERE project = ? ORDER BY name");
    s.Text(project);
    std::vector<OrchestratorRow> out;
    while (s.Next()) {
      OrchestratorRow& r = out.emplace_back();
      r.project = s->getColumn(0).getString();
      r.name = s->getColumn(1).getString();
      r.flavor = s->getColumn(2).getString();
      r.config_json = s->getColumn(3).getString();
      r.max_parallel = s->getColumn(4).getInt();
      r.created = s->getColumn(5).getInt64();
      r.updated = s->getColumn(6).getInt64();
      r.version = s->getColumn(7).getInt64();
      r.rate_milli = s->getColumn(8).getInt64();
    }
    return out;
  });
}

absl::StatusOr<std::vector<FlavorRow>> QueriesImpl::ListFlavors() {
  return pool_->Read("listing flavors", [&](Connection& c) -> absl::StatusOr<std::vector<FlavorRow>> {
    auto s = c.Prepare(
        "SELECT name, ifnull(program, ''), ifnull(address, ''), ifnull(ca_file, ''), ifnull(certificate_file, ''), "
        "ifnull(key_file, ''), description, created, updated, version FROM flavor ORDER BY name");
    std::vector<FlavorRow> out;
    while (s.Next()) {
      FlavorRow& r = out.emplace_back();
      int column = 0;
      for (std::string* text :
           {&r.name, &r.program, &r.address, &r.ca_file, &r.certificate_file, &r.key_file, &r.description}) {
        *text = s->getColumn(column++).getString();
      }
      r.created = s->getColumn(7).getInt64();
      r.updated = s->getColumn(8).getInt64();
      r.version = s->getColumn(9).getInt64();
    }
    return out;
  });
}

absl::StatusOr<std::vector<PoolRow>> QueriesImpl::ListPools() {
  return pool_->Read("listing pools", [&](Connection& c) -> absl::StatusOr<std::vector<PoolRow>> {
    auto s = c.Prepare("SELECT name, slots, ifnull(description, '') FROM pool ORDER BY name");
    std::vector<PoolRow> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getString(), s->getColumn(1).getInt64(), s->getColumn(2).getString()});
    }
    return out;
  });
}

absl::StatusOr<std::vector<StackRow>> QueriesImpl::ListStacks() {
  return pool_->Read("listing stacks", [&](Connection& c) -> absl::StatusOr<std::vector<StackRow>> {
    auto s = c.Prepare(
        "SELECT name, orchestrator, artifact_store, ifnull(image_registry, ''), is_default FROM stack ORDER BY name");
    std::vector<StackRow> out;
    while (s.Next()) {
      out.push_back({s->getColumn(0).getString(), s->getColumn(1).getString(), s->getColumn(2).getString(),
                     s->getColumn(3).getString(), s->getColumn(4).getInt() != 0});
    }
    return out;
  });
}

absl::StatusOr<std::optional<RequestRow>> QueriesImpl::FindRequest(absl::string_view method, absl::string_view project,
                                                                   absl::string_view request_id) {
  return pool_->Read("reading a request", [&](Connection& c) -> absl::StatusOr<std::optional<RequestRow>> {
    auto s = c.Prepare(
        "SELECT fingerprint, answer, created FROM request WHERE project = ? AND method = ? AND request_id = ?");
    if (!s.Text(project).Text(method).Text(request_id).Next()) return std::optional<RequestRow>();
    RequestRow r;
    r.method = std::string(method);
    r.project = std::string(project);
    r.request_id = std::string(request_id);
    r.fingerprint = s->getColumn(0).getString();
    r.answer = s->getColumn(1).getString();
    r.created = s->getColumn(2).getInt64();
    return std::optional<RequestRow>(std::move(r));
  });
}

}  // namespace orch::store
