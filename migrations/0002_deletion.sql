-- Runs and artifacts can be deleted.

-- Runs that are gone for readers and not cleaned up yet: steps, attempts, events, logs, artifacts that nothing pins.
CREATE TABLE deleted_run (
  run           INTEGER PRIMARY KEY,
  id            TEXT NOT NULL,
  name          TEXT NOT NULL,
  pipeline      TEXT NOT NULL,     -- its name
  last_sequence INTEGER NOT NULL,  -- of the newest event of the run itself
  deleted       INTEGER NOT NULL
) STRICT;

-- Blobs that lost an artifact. Deletion is two commits: the first puts a blob here; if no artifact has it its file goes;
-- the second removes its row and this one. The file of a blob that is here and that no artifact has may be gone.
CREATE TABLE blob_removal (
  digest BLOB NOT NULL PRIMARY KEY  -- SHA-256, 32 bytes
) STRICT, WITHOUT ROWID;

-- Does anything still have these bytes?
CREATE INDEX artifact_by_digest ON artifact (digest) WHERE digest IS NOT NULL;
-- Does the cache still need what this step made?
CREATE INDEX cache_entry_by_step ON cache_entry (run, ix);

-- verify: SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('deleted_run', 'blob_removal') AND sql NOT LIKE '%STRICT%'
