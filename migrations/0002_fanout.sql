-- Fan-outs over lists that are known only at run time: what became of them. A run without any has no row.

-- Written once, in the commit that ends the group. Rows may be large, hence a rowid table.
CREATE TABLE fanout (
  run   INTEGER NOT NULL,
  step  INTEGER NOT NULL,  -- number of the step as written
  first INTEGER NOT NULL,  -- ix of the first instance
  items BLOB NOT NULL,     -- of each instance the values of the keys
  PRIMARY KEY (run, step)
) STRICT;

-- verify: SELECT 1 FROM fanout f LEFT JOIN run r ON r.key = f.run WHERE r.key IS NULL
