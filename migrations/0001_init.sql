-- The first schema of orchd.
--
-- Conventions: times are integer microseconds UTC (since 1970), columns ending in _mono are microseconds of
-- CLOCK_BOOTTIME of the boot in meta.boot_id; NULL or 0 means "not yet". States, reasons and types are the numbers of
-- orch.v1 (server/model/states.h). Empty text is NULL where a column may be NULL. JSON is opaque to the database.
-- All tables but the full-text index are STRICT. A composite key is the table itself (WITHOUT ROWID), except where rows are large.
-- step, attempt and event are written several times per millisecond, so they have no foreign keys and no index that is
-- not needed: step and attempt none at all, which lets REPLACE overwrite a row in place.

-- What has been applied to this file. Written by the program after each migration.
CREATE TABLE migration (
  number  INTEGER PRIMARY KEY,  -- dense from 1
  name    TEXT NOT NULL,        -- `0001_init.sql`
  sha256  TEXT NOT NULL,        -- hex, of the file's text as it was applied
  applied INTEGER NOT NULL      -- when
) STRICT;

-- Facts about the database: one row.
CREATE TABLE meta (
  id                 INTEGER PRIMARY KEY CHECK (id = 1),
  instance           TEXT NOT NULL,               -- UUID made with the database
  epoch              INTEGER NOT NULL,            -- number of starts
  boot_id            TEXT NOT NULL,               -- the kernel's boot id at the last start
  compacted_sequence INTEGER NOT NULL DEFAULT 0,  -- events up to here are gone
  -- Numbers below these are never given again, though their rows may be deleted: whoever deletes the newest row raises
  -- the floor in the same transaction.
  run_floor          INTEGER NOT NULL DEFAULT 1,
  artifact_floor     INTEGER NOT NULL DEFAULT 1,
  pipeline_floor     INTEGER NOT NULL DEFAULT 1
) STRICT;

-- A version of a pipeline; immutable.
CREATE TABLE pipeline (
  id         INTEGER PRIMARY KEY,
  project    TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL CHECK (version >= 1),  -- per (project, name)
  digest     BLOB NOT NULL,     -- SHA-256 (32 bytes) of the serialized orch.v1.Pipeline
  created    INTEGER NOT NULL,
  step_count INTEGER NOT NULL,  -- before fan-out
  bytes      INTEGER NOT NULL,  -- size of the serialized spec
  UNIQUE (project, name, version)
) STRICT;
CREATE INDEX pipeline_by_digest ON pipeline (digest, project, name);

-- The serialized spec in pieces, shared by all versions with that digest. Pieces without a pipeline are what a crash
-- left; they are removed when the database is opened. Rows are large, hence a rowid table.
CREATE TABLE spec_slice (
  digest BLOB NOT NULL,
  ix     INTEGER NOT NULL,  -- dense from 0
  bytes  BLOB NOT NULL,     -- at most 256 KiB
  PRIMARY KEY (digest, ix)
) STRICT;

-- A run: what lists are filtered by. Rows are small, so that a scan is cheap.
CREATE TABLE run (
  key          INTEGER PRIMARY KEY,  -- grows; newest is largest
  id           TEXT NOT NULL UNIQUE, -- UUID
  project      TEXT NOT NULL,
  name         TEXT NOT NULL,
  pipeline     TEXT NOT NULL,        -- its name
  orchestrator TEXT NOT NULL,        -- its name
  state        INTEGER NOT NULL CHECK (state BETWEEN 1 AND 8),  -- RunState
  UNIQUE (project, name)
) STRICT;
-- Each ends with the state, and (as every index) with the key: a list is a merge of at most eight ranges in key order.
CREATE INDEX run_by_state ON run (project, state);
CREATE INDEX run_by_pipeline ON run (project, pipeline, state);
CREATE INDEX run_by_orchestrator ON run (project, orchestrator, state);
CREATE INDEX run_live ON run (state) WHERE state < 6;  -- not ended: what a restart loads

-- Three-letter pieces of the names of runs, for a search by part of a name; rowid is run.key. Holds no text: what
-- deletes a run also does INSERT INTO run_name (run_name, rowid, name) VALUES ('delete', key, name).
CREATE VIRTUAL TABLE run_name USING fts5 (name, content = '', columnsize = 0, detail = none, tokenize = 'trigram');

-- What of a run never changes and is read only with the run.
CREATE TABLE run_header (
  run              INTEGER PRIMARY KEY REFERENCES run (key) ON DELETE CASCADE,
  pipeline_id      INTEGER REFERENCES pipeline (id),
  pipeline_version INTEGER NOT NULL,
  parameters_json  TEXT NOT NULL,     -- an object, defaults filled in
  labels           BLOB,              -- pairs: for each text 4 bytes of length (little-endian) and its bytes
  submitter_host   TEXT,
  source_dir       TEXT,              -- the folder of the pipeline's file on submitter_host
  environment      BLOB,              -- pairs, as labels
  execution_mode   INTEGER NOT NULL CHECK (execution_mode BETWEEN 1 AND 3),  -- ExecutionMode
  max_parallel     INTEGER NOT NULL,  -- steps at once; 0: no limit
  priority         INTEGER NOT NULL,  -- higher first
  use_cache        INTEGER NOT NULL CHECK (use_cache IN (0, 1)),
  timeout_micros   INTEGER NOT NULL,  -- 0: none
  created          INTEGER NOT NULL,
  step_count       INTEGER NOT NULL   -- after fan-out
) STRICT;

-- What of a run changes with nearly every commit.
CREATE TABLE run_progress (
  run           INTEGER PRIMARY KEY REFERENCES run (key) ON DELETE CASCADE,
  reason        INTEGER NOT NULL,  -- Reason
  message       TEXT,
  generation    INTEGER NOT NULL,  -- 1, and 1 more for each retry of the run
  started       INTEGER NOT NULL,
  ended         INTEGER NOT NULL,
  deadline      INTEGER NOT NULL,
  deadline_mono INTEGER NOT NULL,
  version       INTEGER NOT NULL,  -- grows with each change
  last_sequence INTEGER NOT NULL,  -- of its newest event
  cancel_forced INTEGER NOT NULL CHECK (cancel_forced IN (0, 1)),
  counts        TEXT NOT NULL      -- steps by StepState from 1, with commas between
) STRICT;

-- The index of labels; the labels themselves are in run_header.
CREATE TABLE run_label (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  value   TEXT NOT NULL,
  run     INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  PRIMARY KEY (project, name, value, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_label_by_run ON run_label (run);

-- A step that has left WAITING.
CREATE TABLE step (
  run           INTEGER NOT NULL,
  ix            INTEGER NOT NULL,  -- its number in the run
  name          TEXT NOT NULL,     -- `train[2]`
  state         INTEGER NOT NULL CHECK (state BETWEEN 1 AND 12),  -- StepState
  reason        INTEGER NOT NULL,  -- Reason
  message       TEXT,
  attempt       INTEGER NOT NULL,  -- the newest; 0: none yet
  exit_code     INTEGER,
  signal        INTEGER,
  ready         INTEGER NOT NULL,
  started       INTEGER NOT NULL,
  ended         INTEGER NOT NULL,
  retry_at      INTEGER NOT NULL,
  retry_at_mono INTEGER NOT NULL,
  orchestrator  TEXT,
  cached_from   TEXT,              -- the run's name whose outputs were taken
  PRIMARY KEY (run, ix)
) STRICT, WITHOUT ROWID;

-- One try at a step.
CREATE TABLE attempt (
  run              INTEGER NOT NULL,
  ix               INTEGER NOT NULL,
  number           INTEGER NOT NULL,  -- from 1
  state            INTEGER NOT NULL CHECK (state BETWEEN 0 AND 9),  -- AttemptState
  reason           INTEGER NOT NULL,  -- Reason
  message          TEXT,
  key              TEXT,              -- under which it was submitted
  orchestrator     TEXT,
  handle           BLOB,              -- the backend's own, opaque
  external_id      TEXT,
  url              TEXT,
  node             TEXT,
  exit_code        INTEGER,
  signal           INTEGER,
  created          INTEGER NOT NULL,
  created_mono     INTEGER NOT NULL,
  started          INTEGER NOT NULL,
  started_mono     INTEGER NOT NULL,
  ended            INTEGER NOT NULL,
  stopping         INTEGER NOT NULL,  -- 1: a stop was asked for
  stop_reason      INTEGER NOT NULL,  -- Reason
  platform_failure INTEGER NOT NULL,  -- 1: ended before its command began
  release_pending  INTEGER NOT NULL,  -- 1: the backend still has to clean up; also in pending_release
  cpu_seconds      REAL NOT NULL,     -- user and system, seconds
  peak_memory      INTEGER NOT NULL,  -- bytes
  stdout_bytes     INTEGER NOT NULL,
  stderr_bytes     INTEGER NOT NULL,
  cache_key        BLOB,              -- 32 bytes
  PRIMARY KEY (run, ix, number)
) STRICT, WITHOUT ROWID;

-- The attempts with release_pending = 1: a table of its own instead of an index that every write of attempt would pay.
CREATE TABLE pending_release (
  run    INTEGER NOT NULL,
  ix     INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (run, ix, number)
) STRICT, WITHOUT ROWID;

-- What happened, in one order for all runs, without gaps.
CREATE TABLE event (
  sequence  INTEGER PRIMARY KEY,
  run       INTEGER NOT NULL,
  time      INTEGER NOT NULL,
  type      INTEGER NOT NULL,  -- EventType
  ix        INTEGER,           -- NULL: of the run
  attempt   INTEGER NOT NULL,
  state     INTEGER NOT NULL,  -- RunState or StepState
  reason    INTEGER NOT NULL,  -- Reason
  message   TEXT,
  exit_code INTEGER,
  artifact  INTEGER NOT NULL,  -- artifact.id or 0
  output    TEXT
) STRICT;
CREATE INDEX event_by_run ON event (run);

-- Bytes by digest. Survives runs. Rows may be large, hence a rowid table.
CREATE TABLE blob (
  digest       BLOB NOT NULL PRIMARY KEY,  -- SHA-256, 32 bytes
  size         INTEGER NOT NULL,           -- bytes
  directory    INTEGER NOT NULL CHECK (directory IN (0, 1)),
  inline_bytes BLOB                        -- NULL: a file in the blob folder
) STRICT;

-- The names of artifacts; counts versions in the order of commits.
CREATE TABLE artifact_name (
  id       INTEGER PRIMARY KEY,
  project  TEXT NOT NULL,
  name     TEXT NOT NULL,      -- `pipeline.step.output` or the name given by `as`
  versions INTEGER NOT NULL,   -- the newest version's number
  UNIQUE (project, name)
) STRICT;

-- A version of an artifact; immutable. Survives its run.
CREATE TABLE artifact (
  id            INTEGER PRIMARY KEY,
  name_id       INTEGER NOT NULL REFERENCES artifact_name (id),
  version       INTEGER NOT NULL,
  run           INTEGER NOT NULL,  -- what made it: run, step, attempt
  ix            INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  output        TEXT NOT NULL,
  type          TEXT,
  digest        BLOB,              -- blob.digest
  size          INTEGER NOT NULL,  -- bytes
  value_json    TEXT,              -- of a value output
  early         INTEGER NOT NULL CHECK (early IN (0, 1)),  -- published before its producer ended
  metadata_json TEXT,
  created       INTEGER NOT NULL,
  UNIQUE (name_id, version)
) STRICT;
CREATE INDEX artifact_by_step ON artifact (run, ix);

-- Outputs by what they were made of. Survives runs. Rows may be large, hence a rowid table.
CREATE TABLE cache_entry (
  project    TEXT NOT NULL,
  key        BLOB NOT NULL,     -- SHA-256, 32 bytes
  run        INTEGER NOT NULL,  -- the attempt that made them
  ix         INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  parts_json TEXT NOT NULL,     -- what the key was made of
  artifacts  TEXT NOT NULL,     -- artifact.id with commas between, in the order of the step's outputs
  created    INTEGER NOT NULL,
  PRIMARY KEY (project, key)
) STRICT;

-- Answers to requests with a request_id, so that a repeat gets the same.
CREATE TABLE request (
  project     TEXT NOT NULL,
  method      TEXT NOT NULL,     -- `SubmitRun`
  request_id  TEXT NOT NULL,
  fingerprint BLOB NOT NULL,     -- SHA-256 of the request
  answer      BLOB NOT NULL,     -- what the method needs to answer again
  created     INTEGER NOT NULL,
  PRIMARY KEY (project, method, request_id)
) STRICT, WITHOUT ROWID;

-- Registered orchestrators.
CREATE TABLE orchestrator (
  project      TEXT NOT NULL,
  name         TEXT NOT NULL,
  flavor       TEXT NOT NULL,
  config_json  TEXT NOT NULL,
  max_parallel INTEGER NOT NULL,  -- steps at once; 0: no limit
  created      INTEGER NOT NULL,
  updated      INTEGER NOT NULL,
  version      INTEGER NOT NULL,  -- grows with each change
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

-- Named slots.
CREATE TABLE pool (
  name        TEXT NOT NULL PRIMARY KEY,
  slots       INTEGER NOT NULL,
  description TEXT
) STRICT, WITHOUT ROWID;

-- An orchestrator with an artifact store.
CREATE TABLE stack (
  name           TEXT NOT NULL PRIMARY KEY,
  orchestrator   TEXT NOT NULL,
  artifact_store TEXT NOT NULL,
  image_registry TEXT,
  is_default     INTEGER NOT NULL CHECK (is_default IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX stack_default ON stack (is_default) WHERE is_default = 1;

-- verify: SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'run_name%' AND sql NOT LIKE '%STRICT%'
-- verify: SELECT 1 FROM run r LEFT JOIN run_header h ON h.run = r.key LEFT JOIN run_progress p ON p.run = r.key WHERE h.run IS NULL OR p.run IS NULL
