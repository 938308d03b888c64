-- Flavors that plug-ins bring.

CREATE TABLE flavor (
  name             TEXT NOT NULL PRIMARY KEY,
  program          TEXT,           -- absolute path; null: it is reached by its address
  address          TEXT,
  ca_file          TEXT,           -- of an address: PEM files on the daemon's machine
  certificate_file TEXT,
  key_file         TEXT,
  description      BLOB NOT NULL,  -- what it said of itself: orch.backend.v1.DescribeResponse
  created          INTEGER NOT NULL,
  updated          INTEGER NOT NULL,
  version          INTEGER NOT NULL,  -- grows with each change
  CHECK ((program IS NULL) <> (address IS NULL))
) STRICT;

-- verify: SELECT 1 FROM flavor WHERE length(description) = 0
