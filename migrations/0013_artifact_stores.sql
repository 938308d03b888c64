-- Registered artifact stores, besides the local folder, which is called `default` and has no row; which blobs each of them
-- holds a copy of; and the store of a run.

CREATE TABLE artifact_store (
  name        TEXT NOT NULL PRIMARY KEY,
  flavor      TEXT NOT NULL,
  config_json TEXT NOT NULL,  -- credentials are names of secrets, never values
  created     INTEGER NOT NULL,
  updated     INTEGER NOT NULL,
  version     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blob_copy (
  digest BLOB NOT NULL,  -- blob.digest
  store  TEXT NOT NULL,
  PRIMARY KEY (digest, store)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_copy_by_store ON blob_copy (store);

ALTER TABLE run_header ADD COLUMN artifact_store TEXT;  -- NULL: `default`
ALTER TABLE run_header ADD COLUMN stack TEXT;           -- NULL: none was named

-- verify: SELECT 1 FROM blob_copy WHERE length(digest) <> 32
