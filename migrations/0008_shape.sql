-- Runs whose shape is known only on the way: fan-outs over lists made at run time, inputs from other runs.

-- What became of a fan-out made at run time. Written once, in the commit that ends its group. Rows may be large, hence a
-- rowid table.
CREATE TABLE fanout (
  run   INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  step  INTEGER NOT NULL,  -- number of the step as written
  first INTEGER NOT NULL,  -- ix of the first instance
  items BLOB NOT NULL,     -- of each instance the values of the keys
  PRIMARY KEY (run, step)
) STRICT;

-- Ids of artifacts that `artifact:` inputs were found to be, comma-separated, 0 for the other inputs.
ALTER TABLE attempt ADD COLUMN external_inputs TEXT;

-- verify: SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'fanout' AND sql NOT LIKE '%STRICT%'
