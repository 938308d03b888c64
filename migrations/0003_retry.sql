-- A run that has ended can be retried: its next generation.

-- Attempts up to this one are of earlier generations: they neither count against a budget, nor do their outputs.
ALTER TABLE step ADD COLUMN earlier_attempts INTEGER NOT NULL DEFAULT 0;

-- How the generations before the present one ended, and what they ran with.
CREATE TABLE run_generation (
  run              INTEGER NOT NULL REFERENCES run (key) ON DELETE CASCADE,
  generation       INTEGER NOT NULL,  -- from 1
  pipeline_id      INTEGER REFERENCES pipeline (id),
  pipeline_version INTEGER NOT NULL,
  parameters_json  TEXT NOT NULL,
  state            INTEGER NOT NULL,  -- RunState
  reason           INTEGER NOT NULL,  -- Reason
  message          TEXT,
  ended            INTEGER NOT NULL,
  PRIMARY KEY (run, generation)
) STRICT, WITHOUT ROWID;

-- verify: SELECT 1 FROM step WHERE earlier_attempts <> 0
