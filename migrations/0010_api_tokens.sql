-- Tokens that clients are let in with, besides the owner's. A token is 256 random bits, so that its SHA-256 tells nobody
-- anything; the token itself is nowhere.

CREATE TABLE api_token (
  name      TEXT NOT NULL PRIMARY KEY,
  digest    BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
  scope     INTEGER NOT NULL CHECK (scope IN (1, 2)),  -- 1: read, 2: full
  created   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,  -- 0: never
  last_used INTEGER NOT NULL,  -- to the hour; 0: never
  revoked   INTEGER NOT NULL   -- 0: not
) STRICT;

-- verify: SELECT 1 FROM api_token WHERE length(digest) <> 32
