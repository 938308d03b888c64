-- A run can be retried with other steps, and over other lists; and who read what of other runs.

-- What became of a fan-out made at run time, in each generation that made it. Written in the commit that ends its group.
-- Rows may be large, hence a rowid table.
CREATE TABLE fanout_of_run (
  run    INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  number INTEGER NOT NULL,  -- 1, 2, ... in the run
  step   INTEGER NOT NULL,  -- number of the step as written
  first  INTEGER NOT NULL,  -- ix of its first new instance
  items  BLOB NOT NULL,     -- of each instance the values of the keys
  PRIMARY KEY (run, number)
) STRICT;
INSERT INTO fanout_of_run (run, number, step, first, items)
  SELECT run, row_number() OVER (PARTITION BY run ORDER BY first, step), step, first, items FROM fanout;
DROP TABLE fanout;
ALTER TABLE fanout_of_run RENAME TO fanout;

-- The numbers of the steps of a run, if they do not follow from its pipeline. Rows may be large, hence a rowid table.
CREATE TABLE numbering (
  run        INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  generation INTEGER NOT NULL,  -- the first that has them
  fanouts    INTEGER NOT NULL,  -- fan-outs up to this number are of the numbers before
  numbers    BLOB NOT NULL,     -- name, kind and numbers of each step
  PRIMARY KEY (run, generation)
) STRICT;
ALTER TABLE run_header ADD COLUMN numbering INTEGER NOT NULL DEFAULT 0;  -- the generation of its numbers; 0: none

-- Which attempts read an artifact from outside their run.
CREATE TABLE external_read (
  artifact INTEGER NOT NULL,
  run      INTEGER NOT NULL,
  ix       INTEGER NOT NULL,
  attempt  INTEGER NOT NULL,
  PRIMARY KEY (artifact, run, ix, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX external_read_by_step ON external_read (run, ix);
INSERT INTO external_read (artifact, run, ix, attempt)
  SELECT DISTINCT j.value, a.run, a.ix, a.number FROM attempt a, json_each('[' || a.external_inputs || ']') j
  WHERE a.external_inputs IS NOT NULL AND j.value <> 0;

-- When its first step was handed to an orchestrator.
ALTER TABLE run_generation ADD COLUMN started INTEGER NOT NULL DEFAULT 0;

-- verify: SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('fanout', 'numbering') AND sql NOT LIKE '%STRICT%'
