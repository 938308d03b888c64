-- The cache tells more: what made an entry, by name, so that entries of a step are found together and outlive the names
-- of their runs; and under what a step was looked up in vain.

ALTER TABLE cache_entry ADD COLUMN pipeline TEXT NOT NULL DEFAULT '';  -- the names of what made it
ALTER TABLE cache_entry ADD COLUMN step TEXT NOT NULL DEFAULT '';      -- `train[2]`
ALTER TABLE cache_entry ADD COLUMN run_name TEXT NOT NULL DEFAULT '';

UPDATE cache_entry SET
  pipeline = ifnull((SELECT r.pipeline FROM run r WHERE r.key = cache_entry.run), ''),
  run_name = ifnull((SELECT r.name FROM run r WHERE r.key = cache_entry.run), ''),
  step = ifnull((SELECT s.name FROM step s WHERE s.run = cache_entry.run AND s.ix = cache_entry.ix), '');

-- The newest entry of a step, and all of a step or pipeline.
CREATE INDEX cache_entry_by_name ON cache_entry (project, pipeline, step, created);

-- A step's newest look into the cache that found nothing. Rows are large, hence a rowid table.
CREATE TABLE cache_miss (
  run        INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  ix         INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,  -- the one that then computes
  key        BLOB NOT NULL,     -- SHA-256, 32 bytes
  parts_json TEXT NOT NULL,     -- what the key was made of
  verdict    INTEGER NOT NULL CHECK (verdict BETWEEN 1 AND 3),  -- CacheVerdict
  created    INTEGER NOT NULL,
  PRIMARY KEY (run, ix)
) STRICT;

-- verify: SELECT 1 FROM cache_entry e JOIN run r ON r.key = e.run WHERE e.pipeline <> r.pipeline OR e.run_name <> r.name
