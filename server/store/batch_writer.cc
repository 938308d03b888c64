#include "server/store/batch_writer.h"

#include <SQLiteCpp/Exception.h>

#include <algorithm>

#include "server/base/planted.h"
#include "server/store/encoding.h"
#include "server/store/hot_statement.h"

namespace orch::store {

struct BatchWriter::Statements {
  explicit Statements(SQLite::Database& db)
      : slice(db, "INSERT OR IGNORE INTO spec_slice (digest, ix, bytes) VALUES (?, ?, ?)"),
        pipeline(db,
                 "INSERT INTO pipeline (id, project, name, version, digest, created, step_count, bytes) "
                 "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
        run(db, "INSERT INTO run (key, id, project, name, pipeline, orchestrator, state) VALUES (?, ?, ?, ?, ?, ?, ?)"),
        run_name(db, "INSERT INTO run_name (rowid, name) VALUES (?, ?)"),
        run_header(db,
                   "INSERT INTO run_header (run, pipeline_id, pipeline_version, parameters_json, labels, "
                   "submitter_host, source_dir, environment, execution_mode, max_parallel, priority, use_cache, "
                   "timeout_micros, created, step_count, artifact_store, stack) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        keep_generation(
            db,
            "INSERT OR IGNORE INTO run_generation (run, generation, pipeline_id, pipeline_version, "
            "parameters_json, state, reason, message, started, ended) SELECT r.key, p.generation, h.pipeline_id, "
            "h.pipeline_version, h.parameters_json, r.state, p.reason, p.message, p.started, p.ended FROM run r "
            "JOIN run_header h ON h.run = r.key JOIN run_progress p ON p.run = r.key WHERE r.key = ?"),
        retried_header(db,
                       "UPDATE run_header SET pipeline_id = ?2, pipeline_version = ?3, parameters_json = ?4, "
                       "source_dir = ?5, use_cache = ?6, timeout_micros = ?7, step_count = ?8, max_parallel = ?9, "
                       "execution_mode = ?10, numbering = ?11 WHERE run = ?1"),
        run_label(db, "INSERT OR IGNORE INTO run_label (project, name, value, run) VALUES (?, ?, ?, ?)"),
        run_progress(db,
                     "REPLACE INTO run_progress (run, reason, message, generation, started, ended, deadline, "
                     "deadline_mono, version, last_sequence, cancel_forced, counts) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        // An UPDATE rewrites the indices of the columns it names even if they keep their value.
        run_state(db, "UPDATE run SET state = ?1 WHERE key = ?2 AND state <> ?1"),
        step(db,
             "REPLACE INTO step (run, ix, name, state, reason, message, attempt, exit_code, signal, ready, started, "
             "ended, retry_at, retry_at_mono, orchestrator, cached_from, earlier_attempts) "
             "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        attempt(db,
                "REPLACE INTO attempt (run, ix, number, state, reason, message, key, orchestrator, handle, "
                "external_id, url, node, exit_code, signal, created, created_mono, started, started_mono, ended, "
                "stopping, stop_reason, platform_failure, release_pending, cpu_seconds, peak_memory, stdout_bytes, "
                "stderr_bytes, cache_key, inputs_upto, external_inputs) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        numbering(db,
                  "INSERT INTO numbering (run, generation, fanouts, numbers) "
                  "VALUES (?1, ?2, (SELECT ifnull(max(number), 0) FROM fanout WHERE run = ?1), ?3)"),
        fanout(db,
               "INSERT INTO fanout (run, number, step, first, items) "
               "VALUES (?1, (SELECT ifnull(max(number), 0) + 1 FROM fanout WHERE run = ?1), ?2, ?3, ?4)"),
        external_read(db, "INSERT OR IGNORE INTO external_read (artifact, run, ix, attempt) VALUES (?, ?, ?, ?)"),
        release(db, "INSERT OR IGNORE INTO pending_release (run, ix, number) VALUES (?, ?, ?)"),
        released(db, "DELETE FROM pending_release WHERE run = ? AND ix = ? AND number = ?"),
        blob(db, "INSERT OR IGNORE INTO blob (digest, size, directory, inline_bytes) VALUES (?, ?, ?, ?)"),
        artifact_name(db,
                      "INSERT INTO artifact_name (project, name, versions) VALUES (?, ?, 1) "
                      "ON CONFLICT (project, name) DO UPDATE SET versions = versions + 1 RETURNING id, versions"),
        artifact(db,
                 "INSERT INTO artifact (id, name_id, version, run, ix, attempt, output, type, digest, size, "
                 "value_json, early, metadata_json, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        cache_entry(
            db,
            "REPLACE INTO cache_entry (project, key, run, ix, attempt, parts_json, artifacts, created, pipeline, "
            "step, run_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        cache_miss(db,
                   "REPLACE INTO cache_miss (run, ix, attempt, key, parts_json, verdict, created) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?)"),
        removed_cache_entry(db, "DELETE FROM cache_entry WHERE project = ? AND key = ?"),
        hook(db,
             "REPLACE INTO hook (run, ix, generation, on_failure, id, step, attempt, of_state, reason, message, "
             "of_exit_code, inputs, state, tries, key, result, exit_code, signal, created, started, ended) "
             "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        event(db,
              "INSERT INTO event (sequence, run, time, type, ix, attempt, state, reason, message, exit_code, artifact, "
              "output) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        request(db,
                "INSERT INTO request (project, method, request_id, fingerprint, answer, created) "
                "VALUES (?, ?, ?, ?, ?, ?)"),
        orchestrator(db,
                     "REPLACE INTO orchestrator (project, name, flavor, config_json, max_parallel, created, updated, "
                     "version, rate_milli) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        delete_orchestrator(db, "DELETE FROM orchestrator WHERE project = ? AND name = ?"),
        flavor(
            db,
            "REPLACE INTO flavor (name, program, address, ca_file, certificate_file, key_file, description, created, "
            "updated, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        delete_flavor(db, "DELETE FROM flavor WHERE name = ?"),
        pool(db, "REPLACE INTO pool (name, slots, description) VALUES (?, ?, ?)"),
        delete_pool(db, "DELETE FROM pool WHERE name = ?"),
        secret(db,
               "REPLACE INTO secret (project, name, sealed, text, created, updated, version) "
               "VALUES (?, ?, ?, ?, ?, ?, ?)"),
        delete_secret(db, "DELETE FROM secret WHERE project = ? AND name = ?"),
        api_token(db,
                  "REPLACE INTO api_token (name, digest, scope, created, expires, last_used, revoked) "
                  "VALUES (?, ?, ?, ?, ?, ?, ?)"),
        token_use(db, "UPDATE api_token SET last_used = ? WHERE name = ? AND created = ?"),
        no_default_stack(db, "UPDATE stack SET is_default = 0 WHERE is_default = 1 AND name <> ?"),
        stack(db,
              "INSERT INTO stack (name, orchestrator, artifact_store, image_registry, is_default) "
              "VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET orchestrator = excluded.orchestrator, "
              "artifact_store = excluded.artifact_store, image_registry = excluded.image_registry, "
              "is_default = excluded.is_default"),
        delete_stack(db, "DELETE FROM stack WHERE name = ?"),
        artifact_store(db,
                       "REPLACE INTO artifact_store (name, flavor, config_json, created, updated, version) "
                       "VALUES (?, ?, ?, ?, ?, ?)"),
        delete_artifact_store(db, "DELETE FROM artifact_store WHERE name = ?"),
        blob_copy(db, "INSERT OR IGNORE INTO blob_copy (digest, store) VALUES (?, ?)") {}

  HotStatement slice, pipeline, run, run_name, run_header, keep_generation, retried_header, run_label, run_progress,
      run_state, step, attempt, numbering, fanout, external_read, release, released, blob, artifact_name, artifact,
      cache_entry, cache_miss, removed_cache_entry, hook, event, request, orchestrator, delete_orchestrator, flavor,
      delete_flavor, pool, delete_pool, secret, delete_secret, api_token, token_use, no_default_stack, stack,
      delete_stack, artifact_store, delete_artifact_store, blob_copy;
};

namespace {
int64_t Number(Reason r) { return static_cast<int64_t>(r); }
}  // namespace

BatchWriter::BatchWriter(SQLite::Database& db) : s_(std::make_unique<Statements>(db)), removals_(db) {}
BatchWriter::~BatchWriter() = default;

int64_t BatchWriter::Write(Batch* batch) {
  for (const SpecSlice& row : batch->spec_slices) s_->slice.Blob(row.digest).Int(row.index).Blob(row.bytes).Run();
  for (const PipelineRow& row : batch->pipelines) {
    s_->pipeline.Int(row.id).Text(row.project).Text(row.name).Int(row.version).Blob(row.digest).Int(row.created);
    s_->pipeline.Int(row.step_count).Int(row.bytes).Run();
  }
  WriteNewRuns(*batch);
  for (const RunHeader& h : batch->retried_runs) {  // before the row that begins the next generation
    s_->keep_generation.Int(h.key).Run();
    HotStatement& s = s_->retried_header;
    s.Int(h.key);
    (h.pipeline_id == 0 ? s.Null() : s.Int(h.pipeline_id)).Int(h.pipeline_version).Text(h.parameters_json);
    s.TextOrNull(h.source_dir).Int(h.use_cache).Int(h.timeout_micros).Int(h.step_count).Int(h.max_parallel);
    s.Int(static_cast<int64_t>(h.execution_mode)).Int(h.numbering).Run();
  }
  for (const RunRow& row : batch->runs) WriteRun(row);
  for (const StepRow& row : batch->steps) WriteStep(row);
  for (const NumberingRow& row : batch->numberings)
    s_->numbering.Int(row.run).Int(row.generation).Blob(row.numbers).Run();
  for (const FanoutRow& row : batch->fanouts)
    s_->fanout.Int(row.run).Int(row.step).Int(row.first).Blob(row.items).Run();
  for (const AttemptRow& row : batch->attempts) {
    if (ORCH_PLANTED("lose_row") && row.stopping) continue;
    WriteAttempt(row);
  }
  for (const BlobRow& row : batch->blobs) {
    s_->blob.Blob(row.digest).Int(row.size).Int(row.directory);
    (row.inline_bytes ? s_->blob.Blob(*row.inline_bytes) : s_->blob.Null()).Run();
    if (!row.store.empty()) s_->blob_copy.Blob(row.digest).Text(row.store).Run();
  }
  for (ArtifactRow& row : batch->artifacts) WriteArtifact(&row);
  for (const auto& [project, key] : batch->removed_cache_entries) {
    removals_.RemoveKeptBy(project, key, 0);
    s_->removed_cache_entry.Text(project).Blob(key).Run();
  }
  for (const CacheEntryRow& row : batch->cache_entries) {
    removals_.RemoveKeptBy(row.project, row.key, 0);
    const std::string ids = EncodeIds(row.artifacts);
    s_->cache_entry.Text(row.project).Blob(row.key).Int(row.run).Int(row.ix).Int(row.attempt).Text(row.parts_json);
    s_->cache_entry.Text(ids).Int(row.created).Text(row.pipeline).Text(row.step).Text(row.run_name).Run();
  }
  for (const CacheMissRow& row : batch->cache_misses) {
    s_->cache_miss.Int(row.run).Int(row.ix).Int(row.attempt).Blob(row.key).Text(row.parts_json);
    s_->cache_miss.Int(static_cast<int64_t>(row.verdict)).Int(row.created).Run();
  }
  for (const HookRow& row : batch->hooks) WriteHook(row);
  for (const EventRow& row : batch->events) WriteEvent(row);
  for (const RequestRow& row : batch->requests) {
    s_->request.Text(row.project).Text(row.method).Text(row.request_id).Blob(row.fingerprint).Blob(row.answer);
    s_->request.Int(row.created).Run();
  }
  WriteRegistry(*batch);
  const int64_t removed = removals_.Write(batch->removals);
  const size_t rows = batch->spec_slices.size() + batch->pipelines.size() + batch->new_runs.size() +
                      batch->retried_runs.size() + batch->runs.size() + batch->steps.size() + batch->numberings.size() +
                      batch->fanouts.size() + batch->attempts.size() + batch->blobs.size() + batch->artifacts.size() +
                      batch->cache_entries.size() + batch->cache_misses.size() + batch->removed_cache_entries.size() +
                      batch->hooks.size() + batch->events.size() + batch->requests.size() +
                      batch->orchestrators.size() + batch->deleted_orchestrators.size() + batch->flavors.size() +
                      batch->deleted_flavors.size() + batch->pools.size() + batch->deleted_pools.size() +
                      batch->secrets.size() + batch->deleted_secrets.size() + batch->api_tokens.size() +
                      batch->token_uses.size() + batch->stacks.size() + batch->deleted_stacks.size() +
                      batch->artifact_stores.size() + batch->deleted_artifact_stores.size();
  return static_cast<int64_t>(rows) + removed;
}

void BatchWriter::WriteNewRuns(const Batch& batch) {
  // The rows mostly come in the order of the headers.
  auto row = batch.runs.begin();
  for (const RunHeader& h : batch.new_runs) {
    const auto of_this = [&](const RunRow& r) { return r.key == h.key; };
    row = std::find_if(row, batch.runs.end(), of_this);
    if (row == batch.runs.end()) row = std::find_if(batch.runs.begin(), batch.runs.end(), of_this);
    if (row == batch.runs.end()) throw SQLite::Exception("a new run came without its state", SQLITE_CONSTRAINT);
    s_->run.Int(h.key).Text(h.id).Text(h.project).Text(h.name).Text(h.pipeline).Text(h.orchestrator);
    s_->run.Int(static_cast<int64_t>(row->state)).Run();
    s_->run_name.Int(h.key).Text(h.name).Run();
    const std::string labels = EncodePairs(h.labels);
    const std::string environment = EncodePairs(h.environment);
    HotStatement& s = s_->run_header;
    s.Int(h.key);
    (h.pipeline_id == 0 ? s.Null() : s.Int(h.pipeline_id)).Int(h.pipeline_version).Text(h.parameters_json);
    s.BlobOrNull(labels).TextOrNull(h.submitter_host).TextOrNull(h.source_dir).BlobOrNull(environment);
    s.Int(static_cast<int64_t>(h.execution_mode)).Int(h.max_parallel).Int(h.priority).Int(h.use_cache);
    s.Int(h.timeout_micros).Int(h.created).Int(h.step_count).TextOrNull(h.artifact_store).TextOrNull(h.stack).Run();
    for (const auto& [name, value] : h.labels) s_->run_label.Text(h.project).Text(name).Text(value).Int(h.key).Run();
  }
}

void BatchWriter::WriteRun(const RunRow& r) {
  const std::string counts = EncodeCounts(r.counts);
  s_->run_progress.Int(r.key).Int(Number(r.reason)).TextOrNull(r.message).Int(r.generation).Int(r.started);
  s_->run_progress.Int(r.ended).Int(r.deadline).Int(r.deadline_mono).Int(r.version).Int(r.last_sequence);
  s_->run_progress.Int(r.cancel_forced).Text(counts).Run();
  s_->run_state.Int(static_cast<int64_t>(r.state)).Int(r.key).Run();
}

void BatchWriter::WriteStep(const StepRow& r) {
  HotStatement& s = s_->step;
  s.Int(r.run).Int(r.ix).Text(r.name).Int(static_cast<int64_t>(r.state)).Int(Number(r.reason)).TextOrNull(r.message);
  s.Int(r.attempt).IntOrNull(r.exit_code).IntOrNull(r.signal).Int(r.ready).Int(r.started).Int(r.ended);
  s.Int(r.retry_at).Int(r.retry_at_mono).TextOrNull(r.orchestrator).TextOrNull(r.cached_from);
  s.Int(r.earlier_attempts).Run();
}

void BatchWriter::WriteAttempt(const AttemptRow& r) {
  HotStatement& s = s_->attempt;
  s.Int(r.run).Int(r.ix).Int(r.number).Int(static_cast<int64_t>(r.state)).Int(Number(r.reason)).TextOrNull(r.message);
  s.TextOrNull(r.key).TextOrNull(r.orchestrator).BlobOrNull(r.handle).TextOrNull(r.external_id).TextOrNull(r.url);
  s.TextOrNull(r.node).IntOrNull(r.exit_code).IntOrNull(r.signal).Int(r.created).Int(r.created_mono).Int(r.started);
  s.Int(r.started_mono).Int(r.ended).Int(r.stopping).Int(Number(r.stop_reason)).Int(r.platform_failure);
  s.Int(r.release_pending).Real(r.cpu_seconds).Int(r.peak_memory).Int(r.stdout_bytes).Int(r.stderr_bytes);
  const std::string external = EncodeIds(r.external);
  s.BlobOrNull(r.cache_key).Int(r.inputs_upto).TextOrNull(external).Run();
  for (const ArtifactId id : r.external) {
    if (id != 0) s_->external_read.Int(id).Int(r.run).Int(r.ix).Int(r.number).Run();
  }
  (r.release_pending ? s_->release : s_->released).Int(r.run).Int(r.ix).Int(r.number).Run();
}

void BatchWriter::WriteArtifact(ArtifactRow* r) {
  int64_t name_id = 0;
  s_->artifact_name.Text(r->project).Text(r->name).RunReturning(&name_id, &r->version);
  HotStatement& s = s_->artifact;
  s.Int(r->id).Int(name_id).Int(r->version).Int(r->run).Int(r->ix).Int(r->attempt).Text(r->output);
  s.TextOrNull(r->type).BlobOrNull(r->digest).Int(r->size);
  (r->value_json ? s.Text(*r->value_json) : s.Null()).Int(r->early).TextOrNull(r->metadata_json).Int(r->created).Run();
}

void BatchWriter::WriteHook(const HookRow& r) {
  const std::string inputs = EncodeGroups(r.inputs);
  HotStatement& s = s_->hook;
  s.Int(r.run).Int(r.ix).Int(r.generation).Int(r.on_failure).Text(r.id).TextOrNull(r.step).Int(r.attempt);
  s.Int(r.of_state).Int(Number(r.reason)).TextOrNull(r.message).IntOrNull(r.of_exit_code).TextOrNull(inputs);
  s.Int(static_cast<int64_t>(r.state)).Int(r.tries).TextOrNull(r.key).TextOrNull(r.result).IntOrNull(r.exit_code);
  s.IntOrNull(r.signal).Int(r.created).Int(r.started).Int(r.ended).Run();
}

void BatchWriter::WriteEvent(const EventRow& r) {
  HotStatement& s = s_->event;
  s.Int(r.sequence).Int(r.run).Int(r.time).Int(static_cast<int64_t>(r.type));
  (r.ix < 0 ? s.Null() : s.Int(r.ix)).Int(r.attempt).Int(r.state).Int(Number(r.reason)).TextOrNull(r.message);
  s.IntOrNull(r.exit_code).Int(r.artifact).TextOrNull(r.output).Run();
}

void BatchWriter::WriteRegistry(const Batch& batch) {
  for (const auto& [project, name] : batch.deleted_orchestrators)
    s_->delete_orchestrator.Text(project).Text(name).Run();
  for (const OrchestratorRow& r : batch.orchestrators) {
    s_->orchestrator.Text(r.project).Text(r.name).Text(r.flavor).Text(r.config_json).Int(r.max_parallel);
    s_->orchestrator.Int(r.created).Int(r.updated).Int(r.version).Int(r.rate_milli).Run();
  }
  for (const std::string& name : batch.deleted_flavors) s_->delete_flavor.Text(name).Run();
  for (const FlavorRow& r : batch.flavors) {
    s_->flavor.Text(r.name).TextOrNull(r.program).TextOrNull(r.address).TextOrNull(r.ca_file);
    s_->flavor.TextOrNull(r.certificate_file).TextOrNull(r.key_file).Blob(r.description);
    s_->flavor.Int(r.created).Int(r.updated).Int(r.version).Run();
  }
  for (const std::string& name : batch.deleted_pools) s_->delete_pool.Text(name).Run();
  for (const PoolRow& r : batch.pools) s_->pool.Text(r.name).Int(r.slots).TextOrNull(r.description).Run();
  for (const auto& [project, name] : batch.deleted_secrets) s_->delete_secret.Text(project).Text(name).Run();
  for (const SecretRow& r : batch.secrets) {
    s_->secret.Text(r.project).Text(r.name).Blob(r.sealed).Int(r.text).Int(r.created).Int(r.updated).Int(r.version);
    s_->secret.Run();
  }
  for (const ApiTokenRow& r : batch.api_tokens) {
    s_->api_token.Text(r.name).Blob(r.digest).Int(static_cast<int64_t>(r.scope)).Int(r.created).Int(r.expires);
    s_->api_token.Int(r.last_used).Int(r.revoked).Run();
  }
  for (const TokenUse& r : batch.token_uses) s_->token_use.Int(r.last_used).Text(r.name).Int(r.created).Run();
  for (const std::string& name : batch.deleted_artifact_stores) s_->delete_artifact_store.Text(name).Run();
  for (const ArtifactStoreRow& r : batch.artifact_stores) {
    s_->artifact_store.Text(r.name).Text(r.flavor).Text(r.config_json).Int(r.created).Int(r.updated).Int(r.version);
    s_->artifact_store.Run();
  }
  for (const std::string& name : batch.deleted_stacks) s_->delete_stack.Text(name).Run();
  for (const StackRow& r : batch.stacks) {
    if (r.is_default) s_->no_default_stack.Text(r.name).Run();
    s_->stack.Text(r.name).Text(r.orchestrator).Text(r.artifact_store).TextOrNull(r.image_registry).Int(r.is_default);
    s_->stack.Run();
  }
}

}  // namespace orch::store
