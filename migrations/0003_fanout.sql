-- Fan-outs over lists that are known only at run time: what became of them. A run without any has no row.

-- Written once, in the commit that ends the group. Rows may be large, hence a rowid table.
CREATE TABLE fanout (
  run   INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  step  INTEGER NOT NULL,  -- number of the step as written
  first INTEGER NOT NULL,  -- ix of the first instance
  items BLOB NOT NULL,     -- of each instance the values of the keys
  PRIMARY KEY (run, step)
) STRICT;

-- verify: SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'fanout' AND sql NOT LIKE '%STRICT%'
