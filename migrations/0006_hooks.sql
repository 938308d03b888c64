-- Hooks: commands that run when a step or a run has ended. A row comes with the commit of that end. It has no reference to
-- its run: one that is still on its way may outlive it.

CREATE TABLE hook (
  run          INTEGER NOT NULL,
  ix           INTEGER NOT NULL,  -- the step's number; -1: of the run
  generation   INTEGER NOT NULL,  -- of the run
  on_failure   INTEGER NOT NULL CHECK (on_failure IN (0, 1)),
  id           TEXT NOT NULL,     -- the same however often it is begun
  step         TEXT,              -- `train[2]`
  attempt      INTEGER NOT NULL,  -- of the step
  of_state     INTEGER NOT NULL,  -- RunState or StepState that it is about
  reason       INTEGER NOT NULL,  -- Reason of that
  message      TEXT,
  of_exit_code INTEGER,
  inputs       TEXT,              -- artifact.id with commas between, groups with semicolons: inputs, then outputs
  state        INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),  -- HookState
  tries        INTEGER NOT NULL,
  key          TEXT,              -- under which its newest try runs
  result       TEXT,              -- why it failed
  exit_code    INTEGER,
  signal       INTEGER,
  created      INTEGER NOT NULL,
  started      INTEGER NOT NULL,
  ended        INTEGER NOT NULL,
  PRIMARY KEY (run, ix, generation, on_failure)
) STRICT, WITHOUT ROWID;
CREATE INDEX hook_open ON hook (state) WHERE state < 3;  -- not ended: what a restart loads

-- verify: SELECT 1 FROM hook WHERE state >= 3 AND ended = 0
