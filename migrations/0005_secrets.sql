-- Secrets: values that only a step's process sees. What is stored is encrypted; the key is a file beside the database.

CREATE TABLE secret (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  sealed  BLOB NOT NULL,     -- nonce (24 bytes) and XChaCha20-Poly1305 ciphertext, bound to project, name and version
  text    INTEGER NOT NULL CHECK (text IN (0, 1)),  -- 1: the value has no zero byte, so a variable can hold it
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  version INTEGER NOT NULL,  -- grows with each change
  PRIMARY KEY (project, name)
) STRICT;

-- verify: SELECT 1 FROM secret WHERE length(sealed) < 40
