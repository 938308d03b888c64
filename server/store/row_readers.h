// Rows out of statements. For each kind of row its columns, in the order in which the function reads them.
//
// All throw SQLite::Exception.
#pragma once

#include <SQLiteCpp/Statement.h>

#include "server/model/rows.h"
#include "server/store/queries.h"

namespace orch::store {

// Of `run r JOIN run_header h JOIN run_progress p`, see kRunFrom.
inline constexpr char kRunColumns[] =
    "r.key, r.id, r.project, r.name, r.pipeline, r.orchestrator, r.state, h.pipeline_id, h.pipeline_version, "
    "h.parameters_json, h.labels, h.submitter_host, h.source_dir, h.environment, h.execution_mode, h.max_parallel, "
    "h.priority, h.use_cache, h.timeout_micros, h.created, h.step_count, h.numbering, h.artifact_store, h.stack, "
    "p.reason, p.message, "
    "p.generation, p.started, "
    "p.ended, p.deadline, p.deadline_mono, p.version, p.last_sequence, p.cancel_forced, p.counts";
inline constexpr char kRunFrom[] = "run r JOIN run_header h ON h.run = r.key JOIN run_progress p ON p.run = r.key";
RunRecord ReadRun(SQLite::Statement& s);

inline constexpr char kStepColumns[] =
    "run, ix, name, state, reason, message, attempt, exit_code, signal, ready, started, ended, retry_at, "
    "retry_at_mono, orchestrator, cached_from, earlier_attempts";
StepRow ReadStep(SQLite::Statement& s);

inline constexpr char kFanoutColumns[] = "run, step, first, items, number";
FanoutRow ReadFanout(SQLite::Statement& s);

inline constexpr char kAttemptColumns[] =
    "run, ix, number, state, reason, message, key, orchestrator, handle, external_id, url, node, exit_code, signal, "
    "created, created_mono, started, started_mono, ended, stopping, stop_reason, platform_failure, release_pending, "
    "cpu_seconds, peak_memory, stdout_bytes, stderr_bytes, cache_key, inputs_upto, external_inputs";
AttemptRow ReadAttempt(SQLite::Statement& s);

inline constexpr char kEventColumns[] =
    "sequence, run, time, type, ix, attempt, state, reason, message, exit_code, artifact, output";
EventRow ReadEvent(SQLite::Statement& s);

inline constexpr char kHookColumns[] =
    "run, ix, generation, on_failure, id, step, attempt, of_state, reason, message, of_exit_code, inputs, state, "
    "tries, "
    "key, result, exit_code, signal, created, started, ended";
HookRow ReadHook(SQLite::Statement& s);

// Of `artifact a JOIN artifact_name n`, see kArtifactFrom; the second without the value.
inline constexpr char kArtifactColumns[] =
    "a.id, a.run, a.ix, a.attempt, a.output, n.project, n.name, a.version, a.type, a.digest, a.size, a.value_json, "
    "a.early, a.metadata_json, a.created";
inline constexpr char kArtifactColumnsNoValue[] =
    "a.id, a.run, a.ix, a.attempt, a.output, n.project, n.name, a.version, a.type, a.digest, a.size, NULL, "
    "a.early, a.metadata_json, a.created";
inline constexpr int kArtifactColumnCount = 15;
inline constexpr char kArtifactFrom[] = "artifact a JOIN artifact_name n ON n.id = a.name_id";
ArtifactRow ReadArtifact(SQLite::Statement& s);

inline constexpr char kPipelineColumns[] = "id, project, name, version, digest, created, step_count, bytes";
PipelineRow ReadPipeline(SQLite::Statement& s);

}  // namespace orch::store
